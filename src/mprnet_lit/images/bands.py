"""Bands of rows, in which large images are converted without a copy of the whole image."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PIXELS = 2**20
"""Number of pixels of a band."""


def row_bands(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of each band of an image, from top to bottom."""
    step = max(_PIXELS // width, 1)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def copy_pixels(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image], orientation: int, alpha: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Copy the pixels of an image into upright arrays.

    Args:
        image: image of any mode.
        convert: function that converts a band of the image to mode RGB, or RGBA with ``alpha``.
        orientation: EXIF orientation of the image, 1 to 8.
        alpha: whether to copy the alpha channel.

    Returns:
        RGB (H, W, 3), and alpha (H, W) or ``None``.
    """
    width, height = image.size
    size = (width, height) if orientation > 4 else (height, width)
    rgb = np.empty((*size, 3), np.uint8)
    opacity = np.empty(size, np.uint8) if alpha else None
    for rows in row_bands(height, width):
        band = np.asarray(convert(image.crop((0, rows.start, width, rows.stop))))
        _as_stored(rgb, orientation)[rows] = band[..., :3]
        if opacity is not None:
            _as_stored(opacity, orientation)[rows] = band[..., 3]
    return rgb, opacity


def apply_orientation(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a rotated and flipped view. Orientations 5 to 8 are 1 to 4 of the transposed image."""
    if orientation > 4:
        pixels, orientation = pixels.swapaxes(0, 1), orientation - 4
    return pixels[_flips(orientation)]


def _as_stored(upright: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return a view of upright pixels in the orientation of the file."""
    stored = upright[_flips(orientation - 4 if orientation > 4 else orientation)]
    return stored.swapaxes(0, 1) if orientation > 4 else stored


def _flips(orientation: int) -> tuple[slice, slice]:
    rows, columns = (-1 if orientation in flipped else 1 for flipped in ((3, 4), (2, 3)))
    return slice(None, None, rows), slice(None, None, columns)
