"""Reading of image files as upright RGB with 8 or 16 bits, and writing of PNG files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.bands import copy_pixels, row_bands
from mprnet_lit.images.formats import supported_formats, unreadable_reason
from mprnet_lit.images.high_bit_depth import (
    decoded_orientation,
    is_high_bit_depth,
    is_undecodable_ycbcr,
    orientation_of,
    read_high_bit_depth,
    read_ycbcr,
)
from mprnet_lit.images.truncation import check_complete
from mprnet_lit.utils.atomic import require_regular_file, write_atomic
from mprnet_lit.utils.errors import UserError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_MAX_PIXELS = 2**29
"""Maximum number of pixels, large enough for panoramas. Decoding needs up to 4 GB."""
_MAX_BYTES = 8 * _MAX_PIXELS + 2**26
"""Maximum file size: uncompressed pixels of four 16-bit channels, and 64 MB of other data."""
# Pillow warns above this number (default: 89 megapixels) and fails above twice this number.
Image.MAX_IMAGE_PIXELS = _MAX_PIXELS // 2


def read_image(path: Path) -> Pixels:
    """Read an image as upright RGB (H, W, 3): uint16 for more than 8 bits, else uint8.

    Gray is converted to RGB. Alpha is dropped. Only the first frame is read.

    Raises:
        UserError: the file is missing, truncated, not an image, or has an unsupported format.
    """
    with open_image(path) as (image, deep):
        if deep:
            return read_high_bit_depth(path, image)
        return decode(path, image, lambda band: band.convert("RGB"))[0]


def probe_image(path: Path, *, full: bool = True) -> tuple[int, int]:
    """Return the height and width of an upright image, in most cases without decoding it.

    Truncated files are detected from the end marker (PNG, JPEG) or lengths. Only BMP files, and PNG
    files with EXIF after the pixels, are decoded.

    Args:
        path: path of the image.
        full: whether to read the whole file, to check the checksums of a PNG and to detect
            decompression bombs; see :func:`mprnet_lit.images.truncation.check_complete`.

    Raises:
        UserError: the file is missing, truncated, not an image, or has an unsupported format.
    """
    with open_image(path, full=full) as (image, _):
        width, height = image.size
        if isinstance(image, TiffImageFile):  # Pillow may have swapped the size already
            width, height = image.tag_v2[Tag.ImageWidth], image.tag_v2[Tag.ImageLength]
        return (width, height) if orientation_of(path, image) > 4 else (height, width)


def to_float(image: Pixels) -> NDArray[np.float32]:
    """Convert uint8 or uint16 to float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def to_uint8(image: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Convert floating point in [0, 1] to uint8 with rounding and clipping."""
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), dtype=np.uint8)


def round_to_8_bits(image: Pixels) -> NDArray[np.uint8]:
    """Return an image of uint8 or uint16 as uint8. An image of uint8 is not copied."""
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    rounded = np.empty(image.shape, np.uint8)
    for rows in row_bands(*image.shape[:2]):
        rounded[rows] = to_uint8(to_float(image[rows]))
    return rounded


def write_png(path: Path, image: Pixels) -> None:
    """Write 8-bit or 16-bit RGB (H, W, 3) atomically, and create missing parent folders.

    Raises:
        UserError: the file can't be written.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_atomic(path, encoded.tobytes())


@contextmanager
def open_image(path: Path, *, full: bool = True) -> Iterator[tuple[Image.Image, bool]]:
    """Open an image; yield the image and whether it has more than 8 bits per channel.

    Every error in the block is converted to a UserError with the path of the image. ``full`` is
    that of :func:`probe_image`.

    Raises:
        UserError: the file is missing, damaged, too large, or has an unsupported format.
    """
    try:
        require_regular_file(path, _MAX_BYTES)
        # Given a path, Pillow would map some TIFFs into memory, and rotate them incorrectly.
        with path.open("rb") as file, Image.open(file, formats=supported_formats()) as image:
            if image.format in ("AVIF", "HEIF"):  # the orientation in XMP does not apply
                image.info.pop("xmp", None)
            deep = is_high_bit_depth(path, image)
            check_complete(path, image, full=full)
            yield image, deep
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no image {path}: check the path") from error
    except PermissionError as error:
        raise UserError(f"{path} can't be read (permission denied): allow reading") from error
    except UnidentifiedImageError as error:
        raise UserError(unreadable_reason(path)) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} declares more than the limit of {_MAX_PIXELS / 1e6:.0f} megapixels: "
            "split the image, or remove the file if it is a decompression bomb"
        ) from error
    except Exception as error:  # a decoder may raise any error for a damaged file
        message = getattr(error, "strerror", None) or str(error)
        reason = " ".join(message.split()) or type(error).__name__
        raise UserError(f"{path} can't be read ({reason}): replace or remove it") from error


def decode(
    path: Path,
    image: Image.Image,
    convert: Callable[[Image.Image], Image.Image],
    alpha: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Decode an opened 8-bit image and apply its EXIF orientation.

    Args:
        path: path of the image.
        image: image.
        convert: function that converts a band of the image to mode RGB, or RGBA with ``alpha``.
        alpha: whether to return the alpha channel.

    Returns:
        RGB (H, W, 3), and alpha (H, W) or ``None``.
    """
    if is_undecodable_ycbcr(image):
        return read_ycbcr(path), None
    image.load()  # reads the metadata that follows the pixels, and rotates a TIFF
    return copy_pixels(image, convert, decoded_orientation(image), alpha)
