"""Reading and writing image files: 8 and 16 bits, grey, alpha, EXIF orientation."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.data.exif import ORIENTATION, without_orientation
from mprnet_lit.errors import UserError
from mprnet_lit.files import require_regular, write_whole

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
DEEP_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
"""Of files that may have 16 bits."""

# No others, whatever the suffix: for some of them Pillow starts programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
_MOST_PIXELS = 2**29
"""Half a gigapixel, so that panoramas fit; decoded, and once more as RGB, they take 4 GB."""
_MOST_BYTES = 8 * _MOST_PIXELS + 2**26
"""The most pixels, without compression, of four channels and 16 bits, and 64 MB of other data."""
_MOST_SCANS = 100
"""Of a JPEG. Encoders write about ten; each goes over the whole picture once more."""
# Pillow warns above this, which would by itself be 89 megapixels, and refuses above its double.
Image.MAX_IMAGE_PIXELS = _MOST_PIXELS // 2
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"
# TIFF: tags, and the values of them that are read.
_WIDTH, _HEIGHT, _BITS, _COLOURS, _PLANES, _NUMBERS = 256, 257, 258, 262, 284, 339
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 273, 279, 324, 325
_UNSIGNED = {1, 4}
_GREY_RGB = {1, 2}
_GREY_RGB_PALETTE_CMYK_YCC = {0, 1, 2, 3, 5, 6}


def read_image(path: Path) -> Pixels:
    """Read an image as (H, W, 3) RGB, upright: uint16 if the file has 16 bits, else uint8.

    Grey is repeated in three channels; alpha is dropped; of several frames the first is taken.

    Raises:
        UserError: the file is missing, cut short, no image, or of an unsupported kind.
    """
    with open_image(path) as (image, deep):
        if deep:
            return read_16_bit(path, image)
        return np.array(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)


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
    """Write (H, W, 3) RGB of 8 or 16 bits, whole or not at all; makes the folder.

    Raises:
        UserError: it can't be written.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_whole(path, encoded.tobytes())


@contextmanager
def open_image(path: Path) -> Iterator[tuple[Image.Image, bool]]:
    """Open an image that is whole and of a supported kind; also tells whether it has 16 bits.

    Whatever goes wrong with it inside the ``with`` becomes one sentence.
    """
    try:
        require_regular(path, _MOST_BYTES)
        # Not by its name: Pillow would then map some TIFFs into memory, and turn them wrongly.
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            deep = _is_16_bit(path, image)
            _check_whole(path, image)
            yield image, deep
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no image {path}: check the path") from error
    except PermissionError as error:
        raise UserError(f"{path} can't be read (permission denied): allow it") from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not an image of a supported kind (PNG, JPEG, WebP, TIFF, BMP with 8 bits; "
            "PNG, TIFF with 16): replace or remove it"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} says that it has over {_MOST_PIXELS / 1e6:.0f} megapixels, which is too many: "
            "cut it up, or remove it if it is a trap"
        ) from error
    except Exception as error:  # a damaged file can fail anywhere in its decoder
        said = getattr(error, "strerror", None) or str(error)
        reason = " ".join(said.split()) or type(error).__name__
        raise UserError(f"{path} can't be read ({reason}): replace or remove it") from error


def _is_16_bit(path: Path, image: Image.Image) -> bool:
    """Tell 16 bits, which Pillow may turn into 8, and refuse what no reader gets right."""
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        bits, numbers = set(tags.get(_BITS, (1,))), set(tags.get(_NUMBERS, (1,)))
        if not (bits <= {1, 2, 4, 8, 16} and numbers <= _UNSIGNED):
            raise ValueError("its pixels are not unsigned 8 or 16 bits; save it with 8 or 16 bits")
        deep = 16 in bits
        colours = _GREY_RGB if deep else _GREY_RGB_PALETTE_CMYK_YCC
        if tags.get(_COLOURS, 0) not in colours or (deep and tags.get(_PLANES, 1) != 1):
            raise ValueError("its colours are stored in an unsupported way; save it as plain RGB")
        return deep
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24] == 16
    return False


def read_16_bit(path: Path, image: Image.Image, alpha: bool = False) -> NDArray[np.uint16]:
    """Read (H, W, 3) RGB, or with alpha (H, W, 4), upright, from an image of 16 bits.

    With OpenCV, as Pillow keeps only 8 bits of 16-bit colour.

    Raises:
        ValueError: it can't be decoded.
    """
    content = path.read_bytes()
    orientation = _orientation(path, image)
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    # OpenCV fails to turn a TIFF with alpha, and knows fewer ways to give a PNG's orientation
    # than Pillow.
    if image.format == "PNG":
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    elif not alpha:
        orientation = 1  # it is applied below
    elif orientation != 1:
        content = without_orientation(content)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("its 16-bit pixels can't be decoded")
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if alpha else cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(_turn(pixels, orientation), dtype=np.uint16)


def _turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Make upright by the EXIF orientation: 5 to 8 are 1 to 4 after exchanging the axes."""
    if orientation > 4:
        pixels, orientation = pixels.swapaxes(0, 1), orientation - 4
    rows, columns = (-1 if orientation in flipped else 1 for flipped in ((3, 4), (2, 3)))
    return pixels[::rows, ::columns]


def _orientation(path: Path, image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of which 1 is upright."""
    if image.format == "PNG" and "exif" not in image.info and b"eXIf" in path.read_bytes():
        image.load()  # it follows the pixels
    # A PNG's own method would decode the pixels to look for it.
    orientation = Image.Image.getexif(image).get(ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _upright_size(path: Path, image: Image.Image) -> tuple[int, int]:
    """Return (height, width) after the EXIF orientation."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # Pillow may have turned the size already
        width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    return (width, height) if _orientation(path, image) > 4 else (height, width)


def _check_whole(path: Path, image: Image.Image) -> None:
    """Raise if the file is cut short."""
    size = path.stat().st_size
    whole = True
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        starts = tags.get(_STRIPS) or tags.get(_TILES) or ()
        lengths = tags.get(_STRIP_SIZES) or tags.get(_TILE_SIZES) or (0,) * len(starts)
        ends = [start + length for start, length in zip(starts, lengths, strict=False)]
        # Pillow goes on if the directory is cut; it then hasn't got to where the next one starts.
        whole = bool(ends) and max(ends) <= size and tags.next != tags.offset
    elif image.format == "PNG":
        with Image.open(path, formats=("PNG",)) as unread:
            unread.verify()  # reads every chunk's checksum but the last
        whole = _PNG_END in path.read_bytes()
    elif image.format == "WEBP":
        with path.open("rb") as file:
            whole = size >= int.from_bytes(file.read(8)[4:], "little") + 8
    elif image.format in ("JPEG", "MPO"):
        whole = _jpeg_ends(path, size)
    else:
        image.load()
    if not whole:
        raise ValueError("cut short")


def _jpeg_ends(path: Path, size: int) -> bool:
    """Look for the end marker in the file's last bytes, then before what a camera appended."""
    image = JpegImageFile(path)
    with image:  # stands at the pixels now, past any thumbnail
        file = image.fp
        assert file is not None
        pixels = file.tell()
        if image.info.get("progressive") or not _holds_all(file, image.layers, pixels):
            file.seek(pixels)  # to the end of the file: a comment may look like that of the picture
            if file.read().count(_JPEG_SCAN) > _MOST_SCANS:
                raise ValueError(f"over {_MOST_SCANS} scans, which would take hours to decode")
        for start in (max(pixels, size - 4096), pixels):
            file.seek(start)
            if _JPEG_END in file.read():
                return True
    return False


def _holds_all(file: IO[bytes], channels: int, pixels: int) -> bool:
    """Tell whether the first scan has every channel, so that no other is decoded."""
    head = _JPEG_SCAN + struct.pack(">HB", 6 + 2 * channels, channels)
    file.seek(pixels - 2 - 6 - 2 * channels)
    return file.read(len(head)) == head
