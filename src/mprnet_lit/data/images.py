"""Reading and writing image files: 8 and 16 bits, grey, alpha, EXIF orientation."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mprnet_lit.errors import UserError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})

_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS = 256, 257, 258


def list_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted; hidden ones are left out.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"the folder {folder} {what}: check the path")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UserError(
            f"the folder {folder} holds no image ({' '.join(sorted(IMAGE_SUFFIXES))}): "
            "check the path"
        )
    return sorted(found)


def read_image(path: Path) -> Pixels:
    """Read an image as (H, W, 3) RGB, upright: uint16 if the file has 16 bits, else uint8.

    Grey is repeated in three channels; alpha is dropped; of several frames the first is taken.

    Raises:
        UserError: the file is missing, cut short, or no image.
    """
    with _reading(path) as image:
        if _is_16_bit(image):
            return _read_16_bit(path)
        if image.mode == "F":
            raise ValueError("its pixels are floating point; save it with 8 or 16 bits")
        upright = ImageOps.exif_transpose(image)
        return np.array(upright.convert("RGB"), dtype=np.uint8)


def probe_image(path: Path) -> tuple[int, int]:
    """Return an upright image's (height, width) without decoding its pixels.

    A file that is cut short is noticed by its checksums (PNG), end marker (JPEG) or lengths.

    Raises:
        UserError: the file is missing, cut short, or no image.
    """
    with _reading(path) as image:
        height, width = _upright_size(image)
        _check_whole(path, image)
        return height, width


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
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encoded.tobytes())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"can't write the image {path}: {error.strerror}") from error


@contextmanager
def _reading(path: Path) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong with it becomes one sentence."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            yield image
    except FileNotFoundError as error:
        raise UserError(f"there is no image {path}: check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image: replace or remove it") from error
    except Exception as error:  # a damaged file can fail anywhere in its decoder
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} can't be read ({reason}): replace or remove it") from error


def _is_16_bit(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return 16 in image.tag_v2.get(_TIFF_BITS, ())  # type: ignore[attr-defined]
    if image.format == "PNG":
        # Pillow turns colour of 16 bits into 8, but tells what it decodes from.
        return any(
            "16" in str(tile[3]) for tile in getattr(image, "tile", ())
        ) or image.mode.startswith("I")
    return False


def _read_16_bit(path: Path) -> NDArray[np.uint16]:
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)  # upright
    if image is None or image.dtype != np.uint16:
        raise ValueError("its 16-bit pixels can't be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint16)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) after the EXIF orientation."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow may have turned the size already
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
    # Asking a PNG without EXIF for it would decode the whole image.
    known = image.format != "PNG" or "exif" in image.info
    turned = known and image.getexif().get(_ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def _check_whole(path: Path, image: Image.Image) -> None:
    size = path.stat().st_size
    if image.format == "PNG":
        with Image.open(path) as unread:
            unread.verify()  # reads every chunk's checksum
    elif image.format in ("JPEG", "MPO"):
        with path.open("rb") as file:
            file.seek(-min(size, 4096), os.SEEK_END)
            if b"\xff\xd9" not in file.read():
                raise ValueError("cut short: it has no end marker")
    elif image.format == "WEBP":
        with path.open("rb") as file:
            if size < int.from_bytes(file.read(8)[4:], "little") + 8:
                raise ValueError("cut short")
    elif image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        starts = tags.get(273) or tags.get(324) or ()
        lengths = tags.get(279) or tags.get(325) or ()
        if max((s + n for s, n in zip(starts, lengths, strict=False)), default=0) > size:
            raise ValueError("cut short")
    else:
        image.load()
