"""Reading and writing of image files with 8 or 16 bits, gray or RGB, and EXIF orientation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.formats import supported_formats, unreadable_reason
from mprnet_lit.images.high_bit_depth import is_high_bit_depth, orientation_of, read_high_bit_depth
from mprnet_lit.images.tiff import HEIGHT, WIDTH, needs_opencv, read_ycbcr
from mprnet_lit.images.truncation import check_complete
from mprnet_lit.utils.atomic import require_regular_file, write_atomic
from mprnet_lit.utils.errors import UserError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_MOST_PIXELS = 2**29
"""Half a gigapixel, so that panoramas fit; decoded, and once more as RGB, they take 4 GB."""
_MOST_BYTES = 8 * _MOST_PIXELS + 2**26
"""The most pixels, without compression, of four channels and 16 bits, and 64 MB of other data."""
# Pillow warns above this, which would by itself be 89 megapixels, and refuses above its double.
Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2


def read_image(path: Path) -> Pixels:
    """Read an image as (H, W, 3) RGB, upright: uint16 if the file has 16 bits, else uint8.

    Gray is repeated in three channels; alpha is dropped; of several frames the first is taken.

    Raises:
        UserError: the file is missing, cut short, no image, or of an unsupported kind.
    """
    with open_image(path) as (image, deep):
        if deep:
            return read_high_bit_depth(path, image)
        return np.array(upright_image(path, image).convert("RGB"), dtype=np.uint8)


def probe_image(path: Path) -> tuple[int, int]:
    """Return an upright image's (height, width) without decoding its pixels.

    A file that is cut short is noticed by its checksums (PNG), end marker (JPEG) or lengths; only
    a BMP is decoded.

    Raises:
        UserError: the file is missing, cut short, no image, or of an unsupported kind.
    """
    with open_image(path) as (image, _):
        return _upright_size(path, image)


def to_float(image: Pixels) -> NDArray[np.float32]:
    """Turn uint8 or uint16 into float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)


def to_uint8(image: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Turn [0, 1] into uint8, rounded and clipped."""
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), dtype=np.uint8)


def write_png(path: Path, image: Pixels) -> None:
    """Write (H, W, 3) RGB of 8 or 16 bits atomically; makes the folder.

    Raises:
        UserError: the file can't be written.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_atomic(path, encoded.tobytes())


@contextmanager
def open_image(path: Path) -> Iterator[tuple[Image.Image, bool]]:
    """Open an image that is whole and of a supported kind; also tells whether it has 16 bits.

    Every error inside the ``with`` becomes one sentence.

    Raises:
        UserError: the file is missing, damaged, too large or of an unsupported kind.
    """
    try:
        require_regular_file(path, _MOST_BYTES)
        # Not by its name: Pillow would then map some TIFFs into memory, and turn them wrongly.
        with path.open("rb") as file, Image.open(file, formats=supported_formats()) as image:
            if image.format in ("AVIF", "HEIF"):  # only the container turns these
                image.info.pop("xmp", None)
            deep = is_high_bit_depth(path, image)
            check_complete(path, image)
            yield image, deep
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no image {path}: check the path") from error
    except PermissionError as error:
        raise UserError(f"{path} can't be read (permission denied): allow it") from error
    except UnidentifiedImageError as error:
        raise UserError(unreadable_reason(path)) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} says that it has over {_MOST_PIXELS / 1e6:.0f} megapixels, which is too many: "
            "cut it up, or remove it if it is a trap"
        ) from error
    except Exception as error:  # a damaged file can fail anywhere in its decoder
        said = getattr(error, "strerror", None) or str(error)
        reason = " ".join(said.split()) or type(error).__name__
        raise UserError(f"{path} can't be read ({reason}): replace or remove it") from error


def upright_image(path: Path, image: Image.Image) -> Image.Image:
    """Return an opened image of 8 bits, turned by its EXIF orientation.

    Raises:
        ValueError: the pixels can't be decoded.
    """
    if isinstance(image, TiffImageFile) and needs_opencv(image):
        return Image.fromarray(read_ycbcr(path))
    return ImageOps.exif_transpose(image)


def _upright_size(path: Path, image: Image.Image) -> tuple[int, int]:
    """Return (height, width) after the EXIF orientation."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # Pillow may have turned the size already
        width, height = image.tag_v2[WIDTH], image.tag_v2[HEIGHT]
    return (width, height) if orientation_of(path, image) > 4 else (height, width)
