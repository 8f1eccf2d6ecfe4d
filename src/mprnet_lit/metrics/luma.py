"""Luma of the deraining protocols."""

import torch
from torch import Tensor

from mprnet_lit.utils.checks import require_batch

_LUMA = (65481, 128553, 24966)
_SCALE = 255_000


def luma(images: Tensor) -> Tensor:
    """Y of BT.601 as MATLAB's ``rgb2ycbcr`` gives it for uint8: (B, 3, H, W) -> (B, 1, H, W).

    The images, RGB in [0, 1], are rounded to 8 bits; of those integers Y = 16 + (65.481 R +
    128.553 G + 24.966 B) / 255 is rounded to a whole number, halves up, as MATLAB does for uint8
    input; here in exact integer arithmetic. Returned is Y / 255 in float32: black is 16/255, white
    235/255.
    """
    require_batch("images", images, channels=3)
    integers = (images.detach().clamp(0, 1) * 255).round().to(torch.int64)
    red, green, blue = (w * plane for w, plane in zip(_LUMA, integers.unbind(1), strict=True))
    y = 16 + (2 * (red + green + blue) + _SCALE).div(2 * _SCALE, rounding_mode="floor")
    return (y.float() / 255)[:, None]
