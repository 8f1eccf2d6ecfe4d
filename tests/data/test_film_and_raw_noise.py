"""Noise with the correlation of demosaicing, of the filters of a phone, and of film grain."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import PHOTOS

from mprnet_lit.data.degradations import FilmGrain, RawNoise
from mprnet_lit.data.degradations.raw import bayer_sites, demosaic
from mprnet_lit.images.reading import read_image, to_float

LIGHT, READ = 0.3, 2e-3
"""Linear light of a gray image and standard deviation of its read noise, too small for clipping."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def correlation(values: Any, down: int, across: int) -> float:
    """Return the correlation of an image (H, W) with its shifted copy."""
    first = values[down:, across:]
    second = values[: len(values) - down, : values.shape[1] - across]
    return float((first * second).mean() / values.var())


def gray_noise(directed: bool, **changed: Any) -> Any:
    """Return the noise (H, W, 3) of a gray image in linear light, without white balance."""
    srgb = 1.055 * LIGHT ** (1 / 2.4) - 0.055
    slope = 1.055 / 2.4 * LIGHT ** (1 / 2.4 - 1)
    noise = RawNoise(shot=1e-9, read=READ, filtered=0)
    identity = np.eye(3, dtype=np.float32)
    neutral = {"gains": np.ones(3, np.float32), "matrix": identity, "unprocess": identity}
    draws = noise.draw((400, 400), rng(1)) | neutral | {"directed": directed} | changed
    stacked = {name: torch.as_tensor(value)[None] for name, value in draws.items()}
    noisy = noise.degrade_batch(torch.full((1, 3, 400, 400), srgb), stacked)
    return np.asarray(noisy[0].permute(1, 2, 0) - srgb) / np.float32(slope)


def test_noise_of_green_has_the_variance_and_correlation_of_its_interpolation() -> None:
    """Expected values of the filter of Malvar et al., averaged over the sites.

    At the sites of red and blue, the weights are 1/2 at the center, 1/4 at the four neighbors and
    -1/8 at a distance of 2. Their squares sum up to 9/16. At the sites of green, green is known.
    """
    green = gray_noise(directed=False)[..., 1] / READ
    assert abs(green.mean()) < 0.02
    variance = (1 + 9 / 16) / 2
    assert green.var() == pytest.approx(variance, rel=0.02)
    expected = {(0, 1): 1 / 4, (1, 0): 1 / 4, (1, 1): 1 / 16, (0, 2): -1 / 32, (0, 5): 0}
    for shift, covariance in expected.items():
        assert correlation(green, *shift) == pytest.approx(covariance / variance, abs=0.015), shift


def test_noise_is_correlated_between_channels_and_zero_mean_for_both_methods() -> None:
    for directed in (False, True):
        noise = gray_noise(directed) / READ
        assert np.abs(noise.mean((0, 1))).max() < 0.02
        red, green, blue = np.moveaxis(noise, 2, 0)
        for channel in (red, blue):  # only every fourth pixel measures red
            assert correlation(channel, 0, 1) > 0.2 and correlation(channel, 1, 0) > 0.2
            assert np.corrcoef(channel.ravel(), green.ravel())[0, 1] > 0.2


def test_white_balance_and_color_matrix_multiply_the_noise() -> None:
    neutral = gray_noise(directed=False)
    gains = np.array([2, 1, 1.5], np.float32)
    np.testing.assert_allclose(gray_noise(False, gains=gains), neutral * gains, atol=READ * 0.1)
    matrix = np.array([[1.5, -0.5, 0], [-0.25, 1.5, -0.25], [0, -0.5, 1.5]], np.float32)
    mixed = gray_noise(False, matrix=matrix, unprocess=np.linalg.inv(matrix))
    np.testing.assert_allclose(mixed, neutral @ matrix.T, atol=READ * 0.1)


def test_shot_noise_grows_with_light() -> None:
    def variance(value: float) -> Any:
        noise = RawNoise(shot=1e-4, read=0, filtered=0)
        noisy = [noise(np.full((64, 64, 3), value, np.float32), rng(s)) for s in range(10)]
        light = ((np.asarray(noisy) + 0.055) / 1.055) ** 2.4
        return light[..., 1].var()

    dark, bright = (1.055 * light ** (1 / 2.4) - 0.055 for light in (0.1, 0.4))
    assert variance(bright) / variance(dark) == pytest.approx(4, rel=0.1)


def test_image_keeps_its_sharpness_and_colors() -> None:
    """Without noise, neither the demosaicing nor the filters change a photograph."""
    photo = to_float(read_image(PHOTOS / "chelsea.png"))[100:200, 100:220]
    for seed in range(4):
        out = RawNoise(shot=1e-9, read=0, filtered=1)(photo, rng(seed))
        np.testing.assert_allclose(out, photo, rtol=0, atol=2e-3)


def test_phone_filters_smooth_the_chroma_noise() -> None:
    gray = np.full((128, 128, 3), 0.5, np.float32)

    def chroma(filtered: float) -> Any:
        noisy = [RawNoise(1e-3, filtered=filtered)(gray, rng(seed)) for seed in range(8)]
        difference = np.asarray(noisy)[..., 0] - np.asarray(noisy)[..., 1]
        difference -= difference.mean((1, 2), keepdims=True)
        return np.mean([correlation(d, 0, 2) for d in difference]), difference.std()

    (raw, strong), (smooth, weak) = chroma(0), chroma(1)
    assert smooth > raw + 0.2 and weak < 0.8 * strong


def interpolated(image: Any, directed: bool, phase: Any = (0, 1)) -> Any:
    """Sample an image (H, W, 3) on a Bayer mosaic, and interpolate it without borders."""
    colors = torch.from_numpy(image).permute(2, 0, 1)[None]
    sites = bayer_sites(torch.tensor([phase]), colors.shape[2:])
    mosaic = (colors * sites).sum(1, keepdim=True)
    result = demosaic(mosaic, mosaic, sites, torch.full((1, 1, 1, 1), directed))
    return np.asarray(result[0, :, 3:-3, 3:-3].permute(1, 2, 0))


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("directed", [False, True])
def test_demosaicing_is_exact_for_gradients(directed: bool, phase: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:20, :24].astype(np.float32)
    ramp = np.stack([0.1 + 0.01 * rows, 0.3 + 0.01 * rows, 0.7 + 0.01 * rows], 2)
    ramp += 0.02 * columns[..., None]
    np.testing.assert_allclose(interpolated(ramp, directed, phase), ramp[3:-3, 3:-3], atol=1e-5)


def test_directed_demosaicing_follows_edges() -> None:
    columns = rng().random(24, dtype=np.float32)
    bars = np.broadcast_to(columns[:, None], (20, 24, 3)).copy()
    np.testing.assert_allclose(interpolated(bars, True), bars[3:-3, 3:-3], atol=1e-5)
    bars = bars.swapaxes(0, 1).copy()
    np.testing.assert_allclose(interpolated(bars, True), bars[3:-3, 3:-3], atol=1e-5)
    assert np.abs(interpolated(bars, False) - bars[3:-3, 3:-3]).max() > 0.1


def grain(level: float, seed: int = 0, **options: Any) -> NDArray[np.float32]:
    image = np.full((200, 200, 3), level, np.float32)
    return FilmGrain(**options)(image, rng(seed)) - image


def test_grain_has_zero_mean_and_is_strongest_in_medium_gray() -> None:
    for level in (0.0, 0.1, 0.5, 0.8, 1.0):
        noise = grain(level, sigma=10, size=0) * 255
        assert noise.std() == pytest.approx(20 * np.sqrt(level * (1 - level)), rel=0.03, abs=1e-3)
        assert abs(noise.mean()) < 0.15


@pytest.mark.parametrize("size", [0, 0.7, 1.5])
def test_grain_has_the_correlation_of_its_size(size: float) -> None:
    noise = grain(0.5, sigma=8, size=size)
    assert noise.std() * 255 == pytest.approx(8, rel=0.05)
    # A convolution of two Gaussians of standard deviation s is one of sqrt(2) s.
    for distance in (1, 2, 3):
        expected = np.exp(-((distance / (2 * size)) ** 2)) if size else 0
        for shift in ((0, distance), (distance, 0)):
            assert correlation(noise[..., 0], *shift) == pytest.approx(expected, abs=0.06)


def test_grain_is_gray_or_independent_in_each_channel() -> None:
    gray, mixed, colored = (grain(0.5, sigma=8, color=color) for color in (0, 0.5, 1))
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    for noise, expected in ((mixed, 0.5), (colored, 0)):
        found = np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1]
        assert found == pytest.approx(expected, abs=0.05)
