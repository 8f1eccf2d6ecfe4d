"""Decoding without Pillow: images with more than 8 bits per channel, and TIFFs in YCbCr.

Pillow reduces high bit depths to 8 bits, and decodes some TIFFs in YCbCr incorrectly.
"""

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.bands import apply_orientation, row_bands
from mprnet_lit.images.exif import make_upright
from mprnet_lit.images.formats import convert_hint
from mprnet_lit.images.truncation import read_tail
from mprnet_lit.utils.errors import UserError

_PNG_BITS = 24
"""Offset of the bit depth in a PNG file."""
# Values of TIFF tags.
_UNSIGNED = {1, 4}
_GRAY_RGB = {1, 2}
_YCBCR = 6
_GRAY_RGB_PALETTE_CMYK_YCBCR = {0, 1, 2, 3, 5, _YCBCR}
_JPEG = {6, 7}


def is_high_bit_depth(path: Path, image: Image.Image) -> bool:
    """Return whether an image has more than 8 bits per channel.

    Raises:
        UserError: the image is a TIFF with an unsupported pixel format.
    """
    if isinstance(image, TiffImageFile):
        return _is_high_bit_depth_tiff(path, image)
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(_PNG_BITS + 1)[_PNG_BITS] == 16
    return image.format == "HEIF" and image.info["bit_depth"] > 8


def _is_high_bit_depth_tiff(path: Path, image: TiffImageFile) -> bool:
    tags = image.tag_v2
    bits, numbers = set(tags.get(Tag.BitsPerSample, (1,))), set(tags.get(Tag.SampleFormat, (1,)))
    deep = 16 in bits
    colors = _GRAY_RGB if deep else _GRAY_RGB_PALETTE_CMYK_YCBCR
    fault = ""
    if not (bits <= {1, 2, 4, 8, 16} and numbers <= _UNSIGNED):
        fault = "its pixels are not unsigned 8 or 16 bits"
    elif tags.get(Tag.PhotometricInterpretation, 0) not in colors or (
        deep and tags.get(Tag.PlanarConfiguration, 1) != 1
    ):
        fault = "its colors are stored in an unsupported way"
    elif tags.get(Tag.NewSubfileType, 0) & 1 or tags.get(Tag.SubfileType) == 2:
        fault = "its first page is a thumbnail of the image"
    if fault:
        raise UserError(f"{path} can't be read ({fault}): {convert_hint(path)}")
    return deep


def is_undecodable_ycbcr(image: Image.Image) -> bool:
    """Return whether an image is a TIFF with YCbCr pixels that Pillow can't decode correctly."""
    if not isinstance(image, TiffImageFile):
        return False
    tags = image.tag_v2
    return (
        tags.get(Tag.PhotometricInterpretation) == _YCBCR and tags.get(Tag.Compression) not in _JPEG
    )


def read_ycbcr(path: Path) -> NDArray[np.uint8]:
    """Read a TIFF with YCbCr pixels as upright RGB (H, W, 3)."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError("its YCbCr pixels can't be decoded")
    return np.asarray(pixels, dtype=np.uint8)


def read_high_bit_depth(path: Path, image: Image.Image, alpha: bool = False) -> NDArray[np.uint16]:
    """Read an image of more than 8 bits per channel as upright RGB or RGBA, range 0 to 65535."""
    if image.format == "HEIF":
        return _read_heic(path, alpha)
    content = path.read_bytes()
    orientation = orientation_of(path, image)
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    # OpenCV does not rotate a TIFF with alpha, and misses the orientation of some PNGs.
    if image.format == "PNG":
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    elif not alpha:
        orientation = 1  # applied by OpenCV
    elif orientation != 1:
        content = make_upright(content, *image.size)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("its 16-bit pixels can't be decoded")
    del content
    order = cv2.COLOR_BGRA2RGBA if alpha else cv2.COLOR_BGR2RGB
    for rows in row_bands(*pixels.shape[:2]):  # IMREAD_COLOR_RGB fails for TIFF
        pixels[rows] = cv2.cvtColor(pixels[rows], order)
    return np.ascontiguousarray(apply_orientation(pixels, orientation), dtype=np.uint16)


def orientation_of(path: Path, image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; of a PNG, EXIF in its last 64 KB counts."""
    if image.format == "PNG" and "exif" not in image.info and b"eXIf" in read_tail(path):
        image.load()  # the eXIf chunk follows the pixels
    return decoded_orientation(image)


def decoded_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, according to the metadata that was read so far."""
    # PngImageFile.getexif would decode the pixels.
    orientation = Image.Image.getexif(image).get(Tag.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _read_heic(path: Path, alpha: bool) -> NDArray[np.uint16]:
    """Read the primary image of a HEIC. libheif applies the orientation."""
    import pillow_heif

    file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = file[file.primary_index]
    pixels: NDArray[Any] = np.asarray(image)
    peak = 2 ** cast(int, image.info["bit_depth"]) - 1
    pixels = np.rint(pixels * (65535 / peak)).astype(np.uint16)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] < 3:
        pixels = pixels[..., [0, 0, 0, *range(1, pixels.shape[2])]]
    return np.ascontiguousarray(pixels[..., : 4 if alpha else 3])
