"""Degradations: reproducible and with the statistics of their models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import center_of_mass, label
from scipy.spatial.distance import pdist
from tests.conftest import PHOTOS

from mprnet_lit.data.degradations import (
    CameraNoise,
    CameraShake,
    Compose,
    Defocus,
    Downsampling,
    FilmGrain,
    GaussianNoise,
    Haze,
    Jpeg,
    LowLight,
    MotionBlur,
    MovingPart,
    Nothing,
    Quantize,
    RainStreaks,
    RandomChoice,
    RawNoise,
    motion_kernel,
)
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.noise import add_sensor_noise, typical_read_noise
from mprnet_lit.images.reading import read_image, to_float
from mprnet_lit.utils.errors import UserError

ALL = {
    "gaussian": GaussianNoise(),
    "camera": CameraNoise(),
    "raw": RawNoise(),
    "grain": FilmGrain(),
    "motion": MotionBlur(),
    "shake": CameraShake(),
    "moving part": MovingPart(),
    "rain": RainStreaks(),
    "haze": Haze(),
    "defocus": Defocus(),
    "downsampling": Downsampling(),
    "low light": LowLight(),
    "jpeg": Jpeg(),
    "choice": RandomChoice([GaussianNoise(), MotionBlur()]),
    "compose": Compose([MotionBlur(), GaussianNoise(), Jpeg()]),
}


@pytest.fixture(scope="module")
def photo() -> NDArray[np.float32]:
    return to_float(read_image(Path(PHOTOS) / "astronaut.png"))[100:300, 100:340]


def rng(seed: int = 0) -> Any:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ALL)
def test_result_depends_only_on_image_and_seed(name: str, photo: NDArray[np.float32]) -> None:
    before = photo.copy()
    first, again, other = (ALL[name](photo, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(photo, before)
    assert first.shape == photo.shape and first.dtype == np.float32
    assert np.abs(first - photo).mean() > 1e-3
    fortran = ALL[name](np.asfortranarray(photo), rng(1))
    assert fortran.flags.c_contiguous
    np.testing.assert_array_equal(fortran, first)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2)])
def test_any_image_size_is_accepted(name: str, shape: tuple[int, int]) -> None:
    for seed in range(5):
        out = ALL[name](np.full((*shape, 3), 0.5, np.float32), rng(seed))
        assert out.shape == (*shape, 3) and np.isfinite(out).all()


def test_gaussian_noise_has_the_given_sigma_and_is_not_clipped(photo: NDArray[np.float32]) -> None:
    noise = GaussianNoise(sigma=25)(photo, rng()) - photo
    assert noise.std() * 255 == pytest.approx(25, rel=0.01)
    assert abs(noise.mean()) * 255 < 0.5
    assert (photo + noise).min() < 0
    assert GaussianNoise(sigma=25, clip=True)(photo, rng()).min() == 0


def test_blind_gaussian_noise_covers_its_range() -> None:
    black = np.zeros((64, 64, 3), np.float32)
    sigmas = [GaussianNoise((10, 40))(black, rng(s)).std() * 255 for s in range(60)]
    assert 9 < min(sigmas) < 14 and 36 < max(sigmas) < 41


def test_sensor_noise_grows_linearly_with_light() -> None:
    levels = np.linspace(0, 1, 6, dtype=np.float32)
    measured = [
        add_sensor_noise(np.full((200, 200, 3), level, np.float32), 0.01, 0.02, rng()).var()
        for level in levels
    ]
    slope, offset = np.polyfit(levels, measured, 1)
    assert slope == pytest.approx(0.01, rel=0.03)
    assert offset == pytest.approx(0.02**2, rel=0.1)


def test_camera_noise_precedes_white_balance() -> None:
    light = np.linspace(0.1, 0.5, 5)  # without clipping
    noise = CameraNoise(shot=2e-4, read=0.004)
    grays = [linear_to_srgb(np.full((200, 200, 3), level, np.float32)) for level in light]
    variances = [srgb_to_linear(noise(gray, rng(4))).var(axis=(0, 1)) for gray in grays]
    slopes, offsets = np.polyfit(light, variances, 1)
    assert slopes[1] == pytest.approx(2e-4, rel=0.05)  # green has no gain
    assert 1.8 < slopes[0] / 2e-4 < 2.5 and 1.4 < slopes[2] / 2e-4 < 2.0  # red, blue
    assert offsets[1] == pytest.approx(0.004**2, rel=0.2)
    # A gain multiplies the standard deviation of the read noise and the variance of shot noise.
    assert offsets[0] / offsets[1] == pytest.approx((slopes[0] / slopes[1]) ** 2, rel=0.3)


def test_read_noise_follows_shot_noise_as_measured_on_cameras() -> None:
    # Brooks et al. 2019: log variance = 2.18 log shot + 1.20, with a spread of 0.26.
    for shot in (1e-4, 1e-2):
        drawn = 2 * np.log([typical_read_noise(shot, rng(s)) for s in range(500)])
        assert drawn.mean() == pytest.approx(2.18 * np.log(shot) + 1.20, abs=0.05)
        assert drawn.std() == pytest.approx(0.26, rel=0.1)


def test_transfer_function_is_srgb_and_invertible(photo: NDArray[np.float32]) -> None:
    # IEC 61966-2-1: 0.5 is 21.4 % of the light; the linear segment has a slope of 12.92.
    assert srgb_to_linear(np.array([0.5, 0.04], np.float32)) == pytest.approx(
        [0.21404, 0.04 / 12.92], abs=1e-5
    )
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(photo)), photo, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shake", [0.0, 1.0])
def test_motion_kernels_are_centered_and_have_the_given_length(seed: int, shake: float) -> None:
    kernel = motion_kernel(rng(seed), length=15, shake=shake)
    assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
    center = (np.array(kernel.shape) - 1) / 2
    np.testing.assert_allclose(center_of_mass(kernel), center, atol=0.05)
    assert pdist(np.argwhere(kernel)).max() == pytest.approx(
        15, abs=2 * 2**0.5
    )  # bilinear splatting
    assert max(kernel.shape) // 2 <= MotionBlur(length=15).margin


def test_motion_paths_are_straight_without_shake_and_curved_with_it() -> None:
    def straightness(shake: float, seed: int) -> Any:
        kernel = motion_kernel(rng(seed), length=25, shake=shake)
        points = np.argwhere(kernel > 0)
        cov = np.cov(points.T, aweights=kernel[kernel > 0])
        low, high = np.linalg.eigvalsh(cov)
        return low / high

    assert max(straightness(0, s) for s in range(10)) < 0.02
    assert np.median([straightness(1, s) for s in range(20)]) > 0.05


@pytest.mark.parametrize("seed", range(6))
def test_long_motion_kernels_have_no_gaps(seed: int) -> None:
    kernel = motion_kernel(rng(seed), length=200, shake=1)
    assert label(kernel, np.ones((3, 3)))[1] == 1


def test_blur_averages_linear_light() -> None:
    blur = MotionBlur(length=12, noise=0)
    dark = np.zeros((64, 64, 3), np.float32)
    dark[32, 32] = 1
    out = blur(dark, rng())
    assert srgb_to_linear(out).sum() == pytest.approx(3, rel=0.01)
    assert out.sum() > 6  # the same light on more pixels has larger sRGB values
    flat = np.full((40, 40, 3), 0.3, np.float32)
    np.testing.assert_allclose(blur(flat, rng()), flat, atol=1e-5)


def test_blur_of_a_crop_with_margin_equals_the_crop_of_the_blur(photo: NDArray[np.float32]) -> None:
    blur = MotionBlur(length=12, noise=0)
    m = blur.margin
    whole = blur(photo, rng(3))[60:120, 70:140]
    part = blur(photo[60 - m : 120 + m, 70 - m : 140 + m], rng(3))[m:-m, m:-m]
    np.testing.assert_allclose(part, whole, atol=1e-5)


def test_defocus_spreads_a_point_over_a_disk_of_linear_light() -> None:
    dark = np.zeros((41, 41, 3), np.float32)
    dark[20, 20] = 1
    light = srgb_to_linear(Defocus(radius=6, noise=0)(dark, rng()))[..., 1]
    distance = np.hypot(*np.mgrid[-20:21, -20:21])
    np.testing.assert_allclose(light[distance < 5.4], 1 / (np.pi * 6**2), rtol=0.02)
    assert light[distance > 6.6].max() < 1e-9 and light.sum() == pytest.approx(1, rel=1e-3)
    assert Defocus(radius=(1, 6)).margin == 6
    np.testing.assert_allclose(Defocus(radius=0.5, noise=0)(dark, rng()), dark, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 3.3])
def test_downsampling_is_that_of_pillow(photo: NDArray[np.float32], factor: float) -> None:
    wide = photo[:150, :163]
    small = round(163 / factor), round(150 / factor)
    channels = []
    for channel in np.moveaxis(wide, 2, 0):
        down = Picture.fromarray(channel).resize(small, Picture.Resampling.BICUBIC)
        channels.append(np.asarray(down.resize((163, 150), Picture.Resampling.BICUBIC)))
    expected = np.clip(np.stack(channels, 2), 0, 1)
    np.testing.assert_allclose(Downsampling(factor)(wide, rng()), expected, rtol=0, atol=1e-5)


def test_low_light_scales_linear_light_and_adds_sensor_noise() -> None:
    gray = linear_to_srgb(np.full((200, 200, 3), 0.8, np.float32))
    dark = srgb_to_linear(LowLight(exposure=0.25, shot=1e-3)(gray, rng()))
    assert dark.mean() == pytest.approx(0.2, rel=0.01)
    # Shot noise of the light that reaches the sensor; Brooks et al. 2019 for the read noise.
    read_variance = np.exp(2.18 * np.log(1e-3) + 1.20)
    assert dark.var() == pytest.approx(1e-3 * 0.2 + read_variance, rel=0.05)
    assert np.array_equal(LowLight(exposure=0, shot=0)(gray, rng()), np.zeros_like(gray))


def test_random_choice_draws_with_the_weights() -> None:
    gray = np.full((4, 4, 3), 0.5, np.float32)
    choice = RandomChoice([GaussianNoise(0), GaussianNoise(50)], weights=[3, 1])
    noisy = [not np.array_equal(choice(gray, rng(s)), gray) for s in range(400)]
    assert np.mean(noisy) == pytest.approx(0.25, abs=0.07)
    assert ALL["choice"].margin == MotionBlur().margin


def test_nothing_copies_the_image_and_quantize_rounds_it(photo: NDArray[np.float32]) -> None:
    copy = Nothing()(photo, rng())
    np.testing.assert_array_equal(copy, photo)
    assert not np.shares_memory(copy, photo)
    wide = photo * 1.4 - 0.2
    saved = Quantize()(wide, rng())
    expected = np.rint(np.clip(wide, 0, 1) * 255) / 255
    np.testing.assert_allclose(saved, expected, rtol=0, atol=1e-7)


def test_compose_applies_steps_in_order(photo: NDArray[np.float32]) -> None:
    noise, jpeg = GaussianNoise(25), Jpeg(50)
    both = Compose([noise, jpeg])(photo, rng(2))
    generator = rng(2)
    np.testing.assert_array_equal(both, jpeg(noise(photo, generator), generator))
    assert Compose([MotionBlur(length=9), MotionBlur(length=4)]).margin == 10 + 5


def test_jpeg_error_grows_with_lower_quality_and_output_has_8_bits(
    photo: NDArray[np.float32],
) -> None:
    errors = [np.abs(Jpeg(quality)(photo, rng()) - photo).mean() for quality in (100, 90, 60, 20)]
    assert errors[0] * 255 < 1.5 and errors == sorted(errors)
    saved = Jpeg()(photo * 2 - 0.5, rng()) * 255
    np.testing.assert_allclose(saved, saved.round(), atol=1e-3)
    assert saved.min() == 0 and saved.max() == pytest.approx(255)


def test_jpeg_subsampling_blurs_chroma_noise() -> None:
    noisy = GaussianNoise(20)(np.full((160, 160, 3), 0.5, np.float32), rng())
    chroma = {
        subsampling: (lambda out: out[..., 0] - out.mean(-1))(Jpeg(100, subsampling)(noisy, rng()))
        for subsampling in ("4:4:4", "4:2:2", "4:2:0")
    }
    # 4:2:2 halves the columns of the chroma channels, 4:2:0 the rows as well.
    across = {name: np.diff(c, axis=1).var() / c.var() / 2 for name, c in chroma.items()}
    down = {name: np.diff(c, axis=0).var() / c.var() / 2 for name, c in chroma.items()}
    assert across["4:4:4"] > 0.9 and across["4:2:2"] < 0.6 and across["4:2:0"] < 0.6
    assert down["4:4:4"] > 0.9 and down["4:2:2"] > 0.9 and down["4:2:0"] < 0.6


@pytest.mark.parametrize("axis", [0, 1])
def test_jpeg_block_grid_has_a_random_offset(axis: int) -> None:
    """At a low quality, blocks are nearly flat and their borders visible."""
    ramp = np.linspace(0.2, 0.8, 128, dtype=np.float32)
    image = np.broadcast_to(ramp[:, None, None], (128, 64, 3)).swapaxes(0, axis)
    offsets = {
        np.abs(np.diff(Jpeg(2)(image, rng(seed)).swapaxes(0, axis)[:, 32, 0])).argmax() % 8
        for seed in range(60)
    }
    assert offsets == set(range(8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(sigma=(50, 0)), r"GaussianNoise sigma=\(50, 0\)"),
        (lambda: GaussianNoise(sigma=-1), "GaussianNoise sigma=-1"),
        (lambda: MotionBlur(shake=[0, 2]), r"MotionBlur shake=\[0, 2\].*from 0 to 1"),
        (lambda: RainStreaks(angle=[1, 2, 3]), "RainStreaks angle"),
        (lambda: RainStreaks(falloff=0), "RainStreaks falloff=0 .* from 0.1 to 1"),
        (lambda: Haze(opacity=1.5), "Haze opacity=1.5 .* from 0 to 1"),
        (lambda: Defocus(radius=60), "Defocus radius=60 .* from 0 to 50"),
        (lambda: Downsampling(factor=0.5), "Downsampling factor=0.5 .* from 1 to 16"),
        (lambda: LowLight(exposure=(0.5, 2)), r"LowLight exposure=\(0.5, 2\) .* from 0 to 1"),
        (lambda: CameraShake(highlights=0.5), r"CameraShake highlights=0.5 .* from 1"),
        (lambda: CameraShake(light=["linear", "dim"]), "light=.* one or more of linear, display"),
        (lambda: CameraShake(light=[]), "CameraShake light="),
        (lambda: CameraShake(light=2), "CameraShake light=2"),  # type: ignore[arg-type]
        (lambda: MovingPart(area=(0, 2)), r"MovingPart area=\(0, 2\) .* from 0 to 1"),
        (lambda: MovingPart(focal=0), "MovingPart focal=0 .* from 10"),
        (lambda: GaussianNoise(sigma=None), "GaussianNoise sigma=None"),  # type: ignore[arg-type]
        (lambda: GaussianNoise(sigma=(0, np.inf)), "GaussianNoise sigma=.*inf"),
        (lambda: MotionBlur(length="far"), "MotionBlur length=far"),  # type: ignore[arg-type]
        (lambda: CameraNoise(shot=0), "CameraNoise shot=0"),
        (lambda: CameraNoise(read=-1), "CameraNoise read=-1"),
        (lambda: RawNoise(filtered=2), "RawNoise filtered=2 must be a number from 0 to 1"),
        (lambda: FilmGrain(size=3), "FilmGrain size=3 must be .* from 0 to 2"),
        (lambda: Jpeg(quality=(0, 90)), r"Jpeg quality=\(0, 90\).*from 1 to 100"),
        (
            lambda: Jpeg(subsampling=["4:1:1"]),
            r"Jpeg subsampling=\['4:1:1'\] must be one or .* 4:4:4",
        ),
        (
            lambda: Jpeg(subsampling=14520),  # type: ignore[arg-type]
            "Jpeg subsampling=14520 .*in quotes in a YAML file",
        ),
        (lambda: Jpeg(subsampling=[["4:2:0"]]), "Jpeg subsampling="),  # type: ignore[list-item]
        (lambda: Jpeg(subsampling=[]), "Jpeg subsampling="),
        (lambda: Compose([]), "Compose: steps must have at least one"),
        (lambda: RandomChoice([]), "RandomChoice: choices must have at least one"),
        (
            lambda: RandomChoice([GaussianNoise()], [1, 2]),
            "RandomChoice: choices must have at least one",
        ),
        (
            lambda: RandomChoice([GaussianNoise()], [np.nan]),
            "RandomChoice: choices must have at least one",
        ),
    ],
)
def test_invalid_arguments_raise_with_their_name(make: Callable[..., Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
