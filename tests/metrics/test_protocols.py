"""Protocols agree with independent computations from their definitions, on real photos."""

import importlib
import sys
import types
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchmetrics
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mprnet_lit.metrics import PROTOCOLS, luma, ssim_volume
from mprnet_lit.metrics.protocols import PerceptualScores, Protocol, mean_scores
from mprnet_lit.metrics.realblur import align
from mprnet_lit.utils.errors import UserError


@pytest.fixture(scope="module")
def target() -> Any:
    return data.astronaut()[:96, 160:288]


@pytest.fixture(scope="module")
def restored(target: Any) -> Any:
    """Return a noisy floating-point image with some values outside [0, 1]."""
    noise = np.random.default_rng(0).normal(0, 0.08, target.shape)
    return (target / 255 + noise).astype(np.float32)


def batch(image: NDArray[Any]) -> Any:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def whole(image: NDArray[Any]) -> Any:
    return np.rint(np.clip(image.astype(np.float32), 0, 1) * 255)


def measure(name: str, restored: Any, target: Any) -> tuple[Any, Any]:
    protocol = PROTOCOLS[name]()
    protocol.update(0, batch(restored), batch(target))
    scores = protocol.compute()[0]
    return scores["psnr"], scores["ssim"]


def matlab_ssim(a: Any, b: Any, peak: Any) -> Any:
    """Return MATLAB's ssim of two H x W x 3 arrays: 11x11x11 kernel, replicated edges."""
    grid = np.mgrid[-5:6, -5:6, -5:6]
    kernel = np.exp(-(grid**2).sum(0) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def blur(volume: Any) -> Any:
        return ndimage.correlate(volume, kernel, mode="nearest")

    a, b = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    index = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (index / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def matlab_y(image: NDArray[Any]) -> Any:
    """Return the luma of MATLAB's rgb2ycbcr for uint8, rounded half up."""
    thousandths = image.astype(np.int64) @ [65481, 128553, 24966]
    # Floating point may compute a half slightly too low; all other values are 1e-6 or more away.
    return np.floor(thousandths / 255_000 + 16 + 0.5 + 1e-9)


def wang(a: Any, b: Any, **options: Any) -> Any:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, **options
    )


def test_luma_equals_rgb2ycbcr_of_matlab() -> None:
    assert [(luma(torch.full((1, 3, 1, 1), v)) * 255).item() for v in (0.0, 1.0)] == [16, 235]
    image = data.astronaut()
    ours = luma(batch(image / 255))[0, 0] * 255
    assert np.array_equal(ours.round().numpy(), matlab_y(image))


def test_gopro_and_hide_scores_match_matlab(restored: Any, target: Any) -> None:
    ours = measure("deblur", restored, target)
    quantized = whole(restored)
    assert ours[0] == pytest.approx(
        peak_signal_noise_ratio(target, quantized, data_range=255), abs=1e-4
    )
    assert ours[1] == pytest.approx(matlab_ssim(quantized, target, 255), abs=1e-5)
    # The definition of Wang et al. gives a different result.
    assert abs(ours[1] - wang(target, quantized, data_range=255, channel_axis=2)) > 1e-3


def test_ssim_volume_of_a_tiny_image(restored: Any, target: Any) -> None:
    small = restored[:4, :7], target[:4, :7]
    ours = ssim_volume(batch(np.clip(small[0], 0, 1)), batch(small[1] / 255)).item()
    assert ours == pytest.approx(matlab_ssim(np.clip(small[0], 0, 1), small[1] / 255, 1), abs=1e-5)


def test_sidd_scores_are_not_quantized(restored: Any, target: Any) -> None:
    ours = measure("sidd", restored, target)
    clipped = np.clip(restored, 0, 1)
    assert ours[0] == pytest.approx(
        peak_signal_noise_ratio(target / 255, clipped, data_range=1), abs=1e-4
    )
    assert ours[1] == pytest.approx(matlab_ssim(clipped, target / 255, 1), abs=1e-5)
    assert abs(ours[0] - measure("deblur", restored, target)[0]) > 1e-5


def test_derain_scores_use_luma_with_peak_255(restored: Any, target: Any) -> None:
    ours = measure("derain", restored, target)
    y = matlab_y(whole(restored)), matlab_y(target)
    assert ours[0] == pytest.approx(peak_signal_noise_ratio(y[1], y[0], data_range=255), abs=1e-4)
    assert ours[1] == pytest.approx(wang(y[1], y[0], data_range=255), abs=1e-4)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_generic_scores_use_the_bit_depth_of_the_target(
    restored: Any, target: Any, depth: Any
) -> None:
    peak = np.iinfo(depth).max
    deep = target.astype(depth) * (peak // 255)
    ours = measure("rgb", restored, deep)
    quantized = np.rint(np.clip(restored, 0, 1) * peak)
    assert ours[0] == pytest.approx(
        peak_signal_noise_ratio(deep, quantized, data_range=peak), abs=1e-4
    )
    expected = wang(deep.astype(np.float64), quantized, data_range=peak, channel_axis=2)
    assert ours[1] == pytest.approx(expected, abs=1e-4)


def test_realblur_compensates_brightness_and_camera_motion(target: Any) -> None:
    """An image that differs by a gain and a homography gets high scores."""
    scene = cv2.GaussianBlur(data.astronaut()[:160, 120:320], (0, 0), 1.5)
    motion = np.array([[1.004, 0.006, 1.7], [-0.005, 0.997, -1.2], [8e-6, -6e-6, 1]], np.float32)
    moved = cv2.warpPerspective(scene, motion, (200, 160), borderMode=cv2.BORDER_REFLECT)
    moved = (moved * 0.8 / 255).astype(np.float32)
    plain = measure("deblur", moved, scene)
    psnr, ssim = measure("realblur", moved, scene)
    assert psnr > plain[0] + 15 and psnr > 35
    assert ssim > 0.98


def test_realblur_scores_follow_their_definition(target: Any) -> None:
    """The scores equal masked sums in NumPy on the similarity map of scikit-image."""
    scene = data.astronaut()[:120, 140:300]
    moved = np.roll(scene, (3, -4), (0, 1)) / 255
    noisy = (moved + np.random.default_rng(1).normal(0, 0.03, moved.shape)).astype(np.float32)
    psnr, ssim = measure("realblur", noisy, scene)

    aligned, inside = align(whole(noisy).astype(np.float32) / 255, scene.astype(np.float32) / 255)
    assert 0.9 < inside.mean() < 1
    mask = np.repeat(inside[..., None], 3, 2).astype(np.float64)
    a, b = aligned * mask, scene / 255 * mask
    assert psnr == pytest.approx(-10 * np.log10(((a - b) ** 2).sum() / mask.sum()), abs=1e-4)
    _, index = wang(b, a, data_range=1, channel_axis=2, full=True)
    centers = np.s_[5:-5, 5:-5]
    per_color = (index * mask)[centers].sum((0, 1)) / mask[centers].sum((0, 1))
    assert ssim == pytest.approx(per_color.mean(), abs=1e-4)


def test_realblur_scores_of_unalignable_images_are_finite(target: Any) -> None:
    black = np.zeros(target.shape, np.float32)
    assert np.isfinite(measure("realblur", black, target)).all()
    flat = np.full(target.shape, 0.5, np.float32)
    assert np.isfinite(measure("realblur", flat, target)).all()


def test_table_is_ordered_without_repeated_samples(restored: Any, target: Any) -> None:
    protocol = PROTOCOLS["rgb"]()
    for index in (4, 0, 2, 0):
        milder = target / 255 + (restored - target / 255) / (index + 1)
        protocol.update(torch.tensor([index]), batch(milder), batch(target))
    table = protocol.compute()
    assert list(table) == [0, 2, 4]
    assert table[0]["psnr"] < table[2]["psnr"] < table[4]["psnr"]
    mean = mean_scores(table.values())
    assert mean["psnr"] == pytest.approx(sum(r["psnr"] for r in table.values()) / 3)


def test_batch_gives_the_scores_of_single_images(restored: Any, target: Any) -> None:
    for name in PROTOCOLS:
        both, single = PROTOCOLS[name](), PROTOCOLS[name]()
        images = [restored, restored[::-1].copy()]
        both.update(
            torch.arange(2),
            torch.cat([batch(i) for i in images]),
            torch.cat([batch(target)] * 2),
        )
        for index, image in enumerate(images):
            single.update(index, batch(image), batch(target))
        for index in range(2):
            assert both.compute()[index] == pytest.approx(single.compute()[index], abs=1e-5)


def test_missing_torchvision_is_reported_with_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"pip install -e '.*\[perceptual\]'"):
        PerceptualScores()


def test_incompatible_torchvision_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError, match=r"pip install -e '.*\[perceptual\]'"):
        PerceptualScores()


def test_protocol_without_measure_is_abstract() -> None:
    class Unfinished(Protocol):
        pass

    with pytest.raises(TypeError, match="measure"):
        Unfinished()  # type: ignore[abstract]


def test_perceptual_scores_are_computed_per_image(
    restored: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks are replaced by mocks, because they are not installed."""

    class StandIn(torchmetrics.MeanAbsoluteError):
        def __init__(self, **_: Any) -> None:
            super().__init__()

    for name in ("LearnedPerceptualImagePatchSimilarity", "DeepImageStructureAndTextureSimilarity"):
        monkeypatch.setattr(f"torchmetrics.image.{name}", StandIn, raising=False)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    scores = PerceptualScores()
    images = torch.cat((batch(restored), batch(target / 255).float()))
    scores.update(torch.arange(2), images, torch.cat([batch(target)] * 2))
    table = scores.compute()
    assert list(table[0]) == ["lpips", "dists"]
    assert table[0]["lpips"] > 0.05 and table[1]["dists"] == pytest.approx(0, abs=1e-6)
