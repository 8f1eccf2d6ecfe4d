"""Luma channel for the deraining protocol."""

import torch
from torch import Tensor

from mprnet_lit.utils.checks import require_batch

_LUMA = (65481, 128553, 24966)
_SCALE = 255_000


def luma(images: Tensor) -> Tensor:
    """Convert RGB to BT.601 luma as MATLAB's ``rgb2ycbcr``: (B, 3, H, W) -> (B, 1, H, W).

    RGB in [0, 1] is rounded to 8 bits. Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 is rounded
    half up, as by MATLAB for uint8 input, in exact integer arithmetic. The result is Y / 255 in
    float32: 16/255 for black and 235/255 for white.
    """
    require_batch("images", images, channels=3)
    integers = (images.detach().clamp(0, 1) * 255).round().to(torch.int64)
    red, green, blue = (w * plane for w, plane in zip(_LUMA, integers.unbind(1), strict=True))
    y = 16 + (2 * (red + green + blue) + _SCALE).div(2 * _SCALE, rounding_mode="floor")
    return (y.float() / 255)[:, None]
