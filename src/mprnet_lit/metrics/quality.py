"""PSNR and SSIM of each image of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, with peak 1: (B, C, H, W) x 2 -> (B,).

    The prediction is clamped to [0, 1] first. Identical images give 100 dB rather than infinity,
    so that a mean over images stays finite.
    """
    error = (prediction.float().clamp(0, 1) - target.float()).square().mean((1, 2, 3))
    return -10 * torch.log10(error.clamp(min=1e-10))


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, with peak 1: (B, C, H, W) x 2 -> (B,).

    Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, the valid region alone, K1 0.01 and
    K2 0.03; each channel by itself, then their mean. The prediction is clamped to [0, 1] first.
    Images of under 11 pixels hold no whole window: NaN.
    """
    prediction, target = prediction.float().clamp(0, 1), target.float()
    if min(target.shape[-2:]) < _WINDOW:
        return torch.full((len(target),), torch.nan, device=target.device)
    both = torch.stack((prediction, target))
    products = torch.stack((prediction * prediction, target * target, prediction * target))
    x, y = _local_mean(both)
    xx, yy, xy = _local_mean(products) - torch.stack((x * x, y * y, x * y))
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * x * y + c1) * (2 * xy + c2) / ((x * x + y * y + c1) * (xx + yy + c2))
    mean: Tensor = index.mean((1, 2, 3))
    return mean


def _local_mean(images: Tensor) -> Tensor:
    """Return the Gaussian-weighted mean in each whole window: (..., H, W) -> (..., H-10, W-10)."""
    offset = torch.arange(_WINDOW, device=images.device) - _WINDOW // 2
    weights = torch.exp(-offset.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    planes = images.reshape(-1, 1, *images.shape[-2:])
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.view(*images.shape[:-2], *planes.shape[-2:])
