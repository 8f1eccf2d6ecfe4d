"""Table of the supported image formats."""

import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import features

from mprnet_lit.utils.errors import UserError, install_hint


@dataclass(frozen=True)
class Format:
    """An image file format.

    Attributes:
        pillow: name of the format in Pillow.
        title: name of the format in messages.
        suffixes: lower-case file name suffixes; the first is the most common.
        deep: whether the format supports more than 8 bits per channel.
        opaque: whether the format lacks an alpha channel.
    """

    pillow: str
    title: str
    suffixes: tuple[str, ...]
    deep: bool = False
    opaque: bool = False


# Other formats are not opened, because Pillow runs external programs for some of them.
FORMATS = (
    Format("PNG", "PNG", (".png",), deep=True),
    Format("JPEG", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), opaque=True),
    Format("WEBP", "WebP", (".webp",)),
    Format("TIFF", "TIFF", (".tif", ".tiff"), deep=True),
    Format("BMP", "BMP", (".bmp",)),
    Format("AVIF", "AVIF", (".avif",)),
    Format("HEIF", "HEIC", (".heic", ".heif", ".hif"), deep=True),
)
BY_SUFFIX = {suffix: form for form in FORMATS for suffix in form.suffixes}
IMAGE_SUFFIXES = frozenset(BY_SUFFIX)
HIGH_BIT_DEPTH_SUFFIXES = frozenset(suffix for suffix, form in BY_SUFFIX.items() if form.deep)
"""Suffixes of the formats that support more than 8 bits per channel."""

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1"}
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSUPPORTED = {
    b"GIF8": "a GIF",
    b"8BPS": "a Photoshop document",
    b"\0\0\0\x0cJXL": "a JPEG XL",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"FUJI": "a raw photo",
    b"v/1\x01": "an OpenEXR",
    b"DDS ": "a DDS texture",
}


def format_for(path: Path) -> Format:
    """Return the format for the suffix of a path.

    Raises:
        UserError: the suffix is unknown, or its format needs a package that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in BY_SUFFIX:
        known = " ".join(sorted(BY_SUFFIX))
        raise UserError(f"can't write {path}: its format is unknown; use one of {known}")
    form = BY_SUFFIX[suffix]
    if form.pillow not in supported_formats():
        raise UserError(f"can't write {path}: {_missing(form.pillow)}")
    return form


@cache
def supported_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that the installed packages support.

    HEIC needs the optional package pillow-heif. AVIF is part of Pillow's wheels.
    """
    names = [form.pillow for form in FORMATS]
    if not features.check("avif"):
        names.remove("AVIF")
    try:
        import pillow_heif
    except ImportError:
        names.remove("HEIF")
    else:
        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return tuple(names)


def is_unsupported_image(path: Path) -> bool:
    """Return whether a file has the signature of a TIFF or of an unsupported image format."""
    return _head(path).startswith((*_UNSUPPORTED, *_TIFF_SIGNATURES))


def unreadable_reason(path: Path) -> str:
    """Return an error message for a file that no decoder accepts, based on its first bytes."""
    head = _head(path)
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS and "HEIF" not in supported_formats():
        return f"{path} can't be read: {_missing('HEIF')}"
    if brand in _AVIF_BRANDS and "AVIF" not in supported_formats():
        return f"{path} can't be read: {_missing('AVIF')}"
    for signature, name in _UNSUPPORTED.items():
        if head.startswith(signature):
            return f"{path} is {name}, which can't be read: {convert_hint(path)}"
    if head.startswith(_TIFF_SIGNATURES):
        return (
            f"{path} is a TIFF that is damaged or has an unsupported pixel format: "
            f"replace or remove it, or {convert_hint(path)}"
        )
    titles = ", ".join(form.title for form in FORMATS)
    return f"{path} is not an image of a supported format ({titles}): replace or remove it"


def convert_hint(path: Path) -> str:
    """Return a suggestion to convert a file to PNG, with an ImageMagick command."""
    command = shlex.join(["magick", path.name, f"{path.stem}.png"])
    return f"save it as plain RGB (PNG) in an image editor, or with ImageMagick: {command}"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def _missing(name: str) -> str:
    if name == "AVIF":
        return "the installed Pillow was built without AVIF; install the wheel of Pillow"
    return f"HEIC needs pillow-heif, which is not installed: {install_hint('heic')}"
