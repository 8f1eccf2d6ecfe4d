"""PSNR and SSIM agree with scikit-image on a real photo."""

from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mprnet_lit.metrics import psnr, quality, ssim
from mprnet_lit.metrics.quality import local_mean, ssim_map, ssim_volume


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    target = data.astronaut()[:128, :160].astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.1, target.shape).astype(np.float32)
    return target, target + noise


def batch(*images: Any) -> torch.Tensor:
    return torch.stack([torch.from_numpy(i.transpose(2, 0, 1)) for i in images])


def test_each_image_has_its_own_score(pair: tuple[Any, Any]) -> None:
    target, noisy = pair
    milder = target + 0.1 * (noisy - target)
    ours = psnr(batch(noisy, milder), batch(target, target))
    expected = [
        peak_signal_noise_ratio(target, np.clip(i, 0, 1), data_range=1) for i in (noisy, milder)
    ]
    assert ours.tolist() == pytest.approx(expected, abs=1e-4)

    ours = ssim(batch(noisy, milder), batch(target, target))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(target, np.clip(i, 0, 1), data_range=1, channel_axis=2, **wang)
        for i in (noisy, milder)
    ]
    assert ours.tolist() == pytest.approx(expected, abs=1e-4)


def test_scores_of_equal_images_are_finite(pair: tuple[Any, Any]) -> None:
    target = batch(pair[0])
    assert psnr(target, target).item() == pytest.approx(100)
    assert ssim(target, target).item() == pytest.approx(1)


def test_ssim_of_an_image_below_the_window_is_nan() -> None:
    assert ssim(torch.rand(2, 3, 10, 40), torch.rand(2, 3, 10, 40)).isnan().all()


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_volume])
def test_metrics_ignore_mixed_precision(metric: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.5 + 0.05 * torch.rand(1, 3, 48, 48, generator=generator)
    prediction = target + 0.01 * torch.randn(target.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = metric(prediction, target)
    torch.testing.assert_close(mixed, metric(prediction, target), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mean", [local_mean, quality._volume_mean])
def test_float64_agrees_with_float32(pair: tuple[Any, Any], mean: Any) -> None:
    target, noisy = batch(pair[0]), batch(pair[1]).clamp(0, 1)
    exact = ssim_map(noisy.double(), target.double(), mean)
    assert exact.dtype == torch.float64
    found = ssim_map(noisy, target, mean)
    torch.testing.assert_close(found, exact.float(), rtol=0, atol=1e-3)
    assert found.mean().item() == pytest.approx(exact.mean().item(), abs=1e-5)
