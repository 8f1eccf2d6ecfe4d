"""PSNR and SSIM of each image in a batch, and luma."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mprnet_lit.utils.checks import require, require_batch, require_function, require_pair
from mprnet_lit.utils.errors import UserError

WINDOW, _SIGMA = 11, 1.5
_LUMA = (65481, 128553, 24966)
_LUMA_SCALE = 255_000


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, with peak 1: (B, C, H, W) x 2 -> (B,).

    The prediction is clamped to [0, 1]. The PSNR is at most 100 dB, so that means over images are
    finite.
    """
    require_pair("prediction", prediction, "target", target)
    require_batch("prediction", prediction)
    error = (prediction.float().clamp(0, 1) - target.float()).square().mean((1, 2, 3))
    return psnr_from_mse(error)


def psnr_from_mse(squared_error: Tensor) -> Tensor:
    """Convert mean squared errors of images with peak 1 to PSNR in dB, at most 100."""
    require("squared_error", squared_error, Tensor, "a tensor")
    return -10 * torch.log10(squared_error.clamp(min=1e-10))


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of each image, with peak 1: (B, C, H, W) x 2 -> (B,).

    Definition of Wang et al. (2004): 11x11 Gaussian window of sigma 1.5 without padding, K1 = 0.01,
    K2 = 0.03, mean over the channels. The prediction is clamped to [0, 1]. The result is NaN for
    images with a side of under 11 pixels, which are smaller than the window.
    """
    require_pair("prediction", prediction, "target", target)
    require_batch("prediction", prediction)
    prediction, target = prediction.float().clamp(0, 1), target.float()
    if min(target.shape[-2:]) < WINDOW:
        return torch.full((len(target),), torch.nan, device=target.device)
    return ssim_map(prediction, target).mean((1, 2, 3))


def ssim_volume(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity as in MATLAB's ``ssim``, with peak 1: (B, 3, H, W) x 2 -> (B,).

    For H x W x 3 arrays, ``ssim`` treats the color channels as a third spatial axis: 11x11x11
    Gaussian window of sigma 1.5 (radius ceil(3 sigma)), replicated edges on all axes, mean over the
    volume, K1 = 0.01, K2 = 0.03. The prediction is clamped to [0, 1].
    """
    require_pair("prediction", prediction, "target", target)
    require_batch("prediction", prediction)
    prediction, target = prediction.float().clamp(0, 1), target.float()
    return ssim_map(prediction, target, _volume_mean).mean((1, 2, 3))


def luma(images: Tensor) -> Tensor:
    """Convert RGB to BT.601 luma like MATLAB's ``rgb2ycbcr``: (B, 3, H, W) -> (B, 1, H, W).

    RGB in [0, 1] is rounded to 8 bits. Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 is rounded
    half up, as by MATLAB for uint8 input, in exact integer arithmetic. The result is Y / 255 in
    float32: 16/255 for black and 235/255 for white.
    """
    require_batch("images", images, channels=3)
    integers = (images.detach().clamp(0, 1) * 255).round().to(torch.int64)
    red, green, blue = (w * plane for w, plane in zip(_LUMA, integers.unbind(1), strict=True))
    y = 16 + (2 * (red + green + blue) + _LUMA_SCALE).div(2 * _LUMA_SCALE, rounding_mode="floor")
    return (y.float() / 255)[:, None]


def local_mean(images: Tensor) -> Tensor:
    """Return the Gaussian-weighted mean in each window: (..., H, W) -> (..., H-10, W-10)."""
    require("images", images, Tensor, "a tensor (..., H, W)")
    if images.dim() < 2 or min(images.shape[-2:]) < WINDOW:
        raise UserError(f"images must be at least {WINDOW} pixels wide and high")
    weights = _gaussian(images)
    planes = images.reshape(-1, 1, *images.shape[-2:])
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.view(*images.shape[:-2], *planes.shape[-2:])


def ssim_map(x: Tensor, y: Tensor, mean: Callable[[Tensor], Tensor] = local_mean) -> Tensor:
    """Return the structural similarity in each window of two images with peak 1.

    Variances are small differences of large means. Therefore, autocast is disabled. CUDA devices
    compute in float64, because they round the inputs of float32 convolutions to TF32 by default.

    Args:
        x: images (..., H, W).
        y: images of the same shape and dtype, float32 or float64.
        mean: function that returns the weighted mean in each window.
    """
    require_pair("x", x, "y", y)
    require_function("mean", mean)
    dtype = x.dtype
    if x.is_cuda:
        x, y = x.double(), y.double()
    with torch.autocast(x.device.type, enabled=False):
        mean_x, mean_y = mean(torch.stack((x, y)))
        xx, yy, xy = mean(torch.stack((x * x, y * y, x * y)))
    xx, yy, xy = xx - mean_x * mean_x, yy - mean_y * mean_y, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity: Tensor = ((2 * mean_x * mean_y + c1) * (2 * xy + c2)) / (
        (mean_x * mean_x + mean_y * mean_y + c1) * (xx + yy + c2)
    )
    return similarity.to(dtype)


def _volume_mean(images: Tensor) -> Tensor:
    """Return the 3-D Gaussian-weighted mean (..., C, H, W), with replicated edges."""
    channels, radius = images.shape[-3], WINDOW // 2
    # On the channel axis, the window with replicated edges is a C x C matrix.
    taps = torch.arange(-radius, radius + 1, device=images.device)
    source = (torch.arange(channels, device=images.device)[:, None] + taps).clamp(0, channels - 1)
    mixing = images.new_zeros(channels, channels)
    mixing.scatter_add_(1, source, _gaussian(images).expand(channels, -1))
    mixed = torch.einsum("oc,...chw->...ohw", mixing, images)
    padded = F.pad(mixed.flatten(0, -4), (radius,) * 4, mode="replicate")
    return local_mean(padded).view_as(images)


def _gaussian(images: Tensor) -> Tensor:
    """Return the weights of a window (11,), with the dtype and on the device of the images."""
    offset = torch.arange(WINDOW, device=images.device) - WINDOW // 2
    weights = torch.exp(-offset.to(images.dtype).square() / (2 * _SIGMA**2))
    return weights / weights.sum()
