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
        index = reflection(image.shape[dim], multiple)
        if len(index) != image.shape[dim]:
            image = image.index_select(dim, index.to(image.device))
    return image


def padded_length(length: int, multiple: int = SIZE_MULTIPLE) -> int:
    """Return the smallest multiple of ``multiple`` that is at least ``length``."""
    return -(-length // multiple) * multiple


def reflection(length: int, multiple: int = SIZE_MULTIPLE) -> Tensor:
    """Return the index of the pixel at each position of a padded row of ``length`` pixels.

    The number of positions is a multiple of ``multiple``. Four pixels have the indices
    0 1 2 3 2 1 0 1 for a multiple of 8.
    """
    period = max(2 * (length - 1), 1)
    index = torch.arange(padded_length(length, multiple)) % period
    return torch.minimum(index, period - index)
