"""PSNR and SSIM of each image of a batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mprnet_lit.utils.checks import require, require_batch, require_function, require_pair
from mprnet_lit.utils.errors import UserError

WINDOW, _SIGMA = 11, 1.5


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, with peak 1: (B, C, H, W) x 2 -> (B,).

    The prediction is clamped to [0, 1] first. Identical images give 100 dB rather than infinity,
    so that a mean over images stays finite.
    """
    require_pair("prediction", prediction, "target", target)
    require_batch("prediction", prediction)
    error = (prediction.float().clamp(0, 1) - target.float()).square().mean((1, 2, 3))
    return psnr_from_mse(error)


def psnr_from_mse(squared_error: Tensor) -> Tensor:
    """Turn mean squared errors of images with peak 1 into PSNR in dB, at most 100."""
    require("squared_error", squared_error, Tensor, "a tensor")
    return -10 * torch.log10(squared_error.clamp(min=1e-10))


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, with peak 1: (B, C, H, W) x 2 -> (B,).

    Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, the valid region alone, K1 0.01 and
    K2 0.03; each channel by itself, then their mean. The prediction is clamped to [0, 1] first.
    Images of under 11 pixels hold no whole window: NaN.
    """
    require_pair("prediction", prediction, "target", target)
    require_batch("prediction", prediction)
    prediction, target = prediction.float().clamp(0, 1), target.float()
    if min(target.shape[-2:]) < WINDOW:
        return torch.full((len(target),), torch.nan, device=target.device)
    return ssim_map(prediction, target).mean((1, 2, 3))


def ssim_volume(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity as MATLAB's ``ssim`` has it, with peak 1: (B, 3, H, W) x 2 -> (B,).

    Given H x W x 3 arrays, ``ssim`` treats the colors as a third axis: an 11x11x11 Gaussian of
    sigma 1.5 (radius ceil(3 sigma)), edges replicated on all three axes, the mean over the whole
    volume; K1 0.01, K2 0.03. The prediction is clamped to [0, 1] first.
    """
    require_pair("prediction", prediction, "target", target)
    require_batch("prediction", prediction)
    prediction, target = prediction.float().clamp(0, 1), target.float()
    return ssim_map(prediction, target, _volume_mean).mean((1, 2, 3))


def local_mean(images: Tensor) -> Tensor:
    """Return the Gaussian-weighted mean in each whole window: (..., H, W) -> (..., H-10, W-10)."""
    require("images", images, Tensor, "a tensor (..., H, W)")
    if images.dim() < 2 or min(images.shape[-2:]) < WINDOW:
        raise UserError(f"images must be at least {WINDOW} pixels wide and high")
    weights = _gaussian(images.device)
    planes = images.reshape(-1, 1, *images.shape[-2:])
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.view(*images.shape[:-2], *planes.shape[-2:])


def ssim_map(x: Tensor, y: Tensor, mean: Callable[[Tensor], Tensor] = local_mean) -> Tensor:
    """Return the similarity in each window, by the windows' ``mean``; values of peak 1.

    In float32 under mixed precision too: variances are small differences of large means.
    """
    require_pair("x", x, "y", y)
    require_function("mean", mean)
    with torch.autocast(x.device.type, enabled=False):
        first, second = mean(torch.stack((x, y)))
        xx, yy, xy = mean(torch.stack((x * x, y * y, x * y)))
    xx, yy, xy = xx - first * first, yy - second * second, xy - first * second
    c1, c2 = 0.01**2, 0.03**2
    similarity: Tensor = ((2 * first * second + c1) * (2 * xy + c2)) / (
        (first * first + second * second + c1) * (xx + yy + c2)
    )
    return similarity


def _volume_mean(images: Tensor) -> Tensor:
    """Return the 3-D Gaussian-weighted mean, edges replicated: (..., C, H, W), same size back."""
    channels, radius = images.shape[-3], WINDOW // 2
    # Along the few channels the window, edges replicated, is a C x C matrix.
    taps = torch.arange(-radius, radius + 1, device=images.device)
    source = (torch.arange(channels, device=images.device)[:, None] + taps).clamp(0, channels - 1)
    mixing = images.new_zeros(channels, channels)
    mixing.scatter_add_(1, source, _gaussian(images.device).expand(channels, -1))
    mixed = torch.einsum("oc,...chw->...ohw", mixing, images)
    padded = F.pad(mixed.flatten(0, -4), (radius,) * 4, mode="replicate")
    return local_mean(padded).view_as(images)


def _gaussian(device: torch.device) -> Tensor:
    offset = torch.arange(WINDOW, device=device) - WINDOW // 2
    weights = torch.exp(-offset.square() / (2 * _SIGMA**2))
    return weights / weights.sum()
