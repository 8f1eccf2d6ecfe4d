"""TIFF files: supported pixel formats, pages and truncation."""

from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.formats import convert_hint
from mprnet_lit.utils.errors import UserError

# Tag numbers, and supported values.
WIDTH, HEIGHT = 256, 257
_KIND, _OLD_KIND = 254, 255
_BITS, _COMPRESSION, _COLORS, _PLANES, _NUMBERS = 258, 259, 262, 284, 339
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 273, 279, 324, 325
_UNSIGNED = {1, 4}
_GRAY_RGB = {1, 2}
_YCBCR = 6
_GRAY_RGB_PALETTE_CMYK_YCBCR = {0, 1, 2, 3, 5, _YCBCR}
_JPEG = {6, 7}


def is_high_bit_depth_tiff(path: Path, image: TiffImageFile) -> bool:
    """Return whether a TIFF has 16 bits per channel, which Pillow may reduce to 8 bits.

    Raises:
        UserError: the pixel format is not supported, or the first page is a thumbnail.
    """
    tags = image.tag_v2
    bits, numbers = set(tags.get(_BITS, (1,))), set(tags.get(_NUMBERS, (1,)))
    deep = 16 in bits
    fault = ""
    if not (bits <= {1, 2, 4, 8, 16} and numbers <= _UNSIGNED):
        fault = "its pixels are not unsigned 8 or 16 bits"
    elif tags.get(_COLORS, 0) not in (_GRAY_RGB if deep else _GRAY_RGB_PALETTE_CMYK_YCBCR) or (
        deep and tags.get(_PLANES, 1) != 1
    ):
        fault = "its colors are stored in an unsupported way"
    elif tags.get(_KIND, 0) & 1 or tags.get(_OLD_KIND) == 2:
        fault = "its first page is a thumbnail of the picture"
    if fault:
        raise UserError(f"{path} can't be read ({fault}): {convert_hint(path)}")
    return deep


def page_count(path: Path, image: TiffImageFile) -> int:
    """Return the number of pages without thumbnails."""
    if getattr(image, "n_frames", 1) == 1:
        return 1
    with tifffile.TiffFile(path) as file:
        return sum(not page.aspage().is_reduced for page in file.pages)


def needs_opencv(image: TiffImageFile) -> bool:
    """Return whether a TIFF has YCbCr pixels that Pillow can't decode correctly."""
    tags = image.tag_v2
    return tags.get(_COLORS) == _YCBCR and tags.get(_COMPRESSION) not in _JPEG


def read_ycbcr(path: Path) -> NDArray[np.uint8]:
    """Read a TIFF with YCbCr pixels as upright RGB (H, W, 3).

    Raises:
        ValueError: the pixels can't be decoded.
    """
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError("its YCbCr pixels can't be decoded")
    return np.asarray(pixels, dtype=np.uint8)


def is_complete_tiff(image: TiffImageFile, size: int) -> bool:
    """Return whether a file of ``size`` bytes contains all strips or tiles of its directory."""
    tags = image.tag_v2
    starts = tags.get(_STRIPS) or tags.get(_TILES) or ()
    lengths = tags.get(_STRIP_SIZES) or tags.get(_TILE_SIZES) or (0,) * len(starts)
    ends = [start + length for start, length in zip(starts, lengths, strict=False)]
    # Pillow ignores a truncated directory, and then has not read the offset of the next one.
    return bool(ends) and max(ends) <= size and tags.next != tags.offset
