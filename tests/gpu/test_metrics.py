"""Metrics on the GPU, compared with the CPU."""

from typing import Any

import pytest
import torch

from mprnet_lit.metrics import psnr, ssim
from mprnet_lit.metrics.quality import ssim_volume


@pytest.mark.parametrize("metric", [psnr, ssim, ssim_volume])
def test_metrics_agree_with_the_cpu(device: torch.device, tf32: bool, metric: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.5 + 0.05 * torch.rand(2, 3, 48, 64, generator=generator)  # small variances
    prediction = target + 0.01 * torch.randn(target.shape, generator=generator)
    found = metric(prediction.to(device), target.to(device))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), metric(prediction, target), rtol=1e-6, atol=2e-5)
