"""Reflection padding of images to a multiple of 8, as the network requires."""

import torch
from torch import Tensor

from mprnet_lit.models import SIZE_MULTIPLE


def pad_to_multiple(image: Tensor, multiple: int = SIZE_MULTIPLE) -> Tensor:
    """Reflect-pad (..., H, W) on the right and bottom to multiples of ``multiple``.

    A small image is reflected repeatedly, and a single pixel is repeated. The crop
    ``padded[..., :H, :W]`` inverts the padding.
    """
    for dim in (-2, -1):
        length = image.shape[dim]
        padded = -(-length // multiple) * multiple
        if padded != length:
            period = max(2 * (length - 1), 1)
            index = torch.arange(padded, device=image.device) % period
            # Reflection of 4 pixels: 0 1 2 3 2 1 0 1 2 ...
            image = image.index_select(dim, torch.minimum(index, period - index))
    return image
