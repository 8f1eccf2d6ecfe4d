"""Reading and writing of photos with alpha channel, EXIF, color profile and resolution."""

import io
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.encoding import (
    encode_bmp,
    encode_deep_png,
    encode_heic,
    encode_png,
    encode_tiff,
)
from mprnet_lit.images.exif import exif_from_tiff, make_upright
from mprnet_lit.images.formats import Format, format_for, supported_formats
from mprnet_lit.images.high_bit_depth import read_high_bit_depth
from mprnet_lit.images.reading import Pixels, open_image, to_float, to_uint8, upright_image
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError

_QUALITY = 95
_AVIF_SPEED = 8
"""Encoder speed from 0 to 10. Speed 8 halves the time of the default (6) and costs 0.4 dB."""
_LOSSY = ("JPEG", "MPO", "AVIF", "HEIF")
_PREMULTIPLIED = 1
"""Value of the TIFF tag ExtraSamples for premultiplied alpha."""


@dataclass(frozen=True)
class Photo:
    """Pixels and metadata of a photo.

    Attributes:
        pixels: upright RGB image (H, W, 3) with 8 or 16 bits.
        alpha: alpha channel (H, W) with the same bit depth, or None.
        exif: EXIF block that starts with a TIFF header, with orientation 1 and no thumbnail.
        icc: ICC color profile of the pixels.
        dpi: horizontal and vertical pixels per inch.
        gray: whether the image is gray and is written with one color channel.
        lossy: whether the source file has lossy compression.
        cicp: color primaries and transfer function of a HEIC (numbers of ITU-T H.273).
    """

    pixels: Pixels
    alpha: Pixels | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    gray: bool = False
    lossy: bool = False
    cicp: tuple[int, int] | None = None


def read_photo(path: Path) -> Photo:
    """Read a PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC file.

    CMYK is converted to sRGB with the embedded profile, if any. A HEIC with 10 or 12 bits is scaled
    to 16 bits. An AVIF with 10 or 12 bits is reduced to 8 bits. The text tags, EXIF and GPS
    directories of a TIFF are kept. XMP, IPTC, PNG text and gamma, thumbnails, camera previews, the
    second image of an MPO, depth and gain maps, and damaged EXIF are dropped.

    Raises:
        UserError: the file is missing, truncated, too large, not an image, or has an unsupported
            format or several frames or pages.
    """
    with open_image(path) as (image, deep):
        frames = _frames(path, image)
        if frames > 1:
            raise UserError(
                f"{path} has {frames} frames or pages, but only one can be restored: "
                "save each frame or page in its own file"
            )
        if image.format == "PNG":
            image.load()  # reads the metadata that follows the pixels
        icc: bytes | None = image.info.get("icc_profile")
        if deep:
            gray = image.mode.startswith(("I;16", "L")) or _is_gray_png(path, image)
            rgb, alpha = _read_16_bit(path, image)
        else:
            gray = image.mode in ("1", "L", "LA")
            rgb, alpha, icc = _read_8_bit(upright_image(path, image), icc)
        nclx = image.info.get("nclx_profile")  # of a HEIC without an ICC profile
        return Photo(
            rgb,
            alpha,
            exif=_exif(image, width=rgb.shape[1], height=rgb.shape[0]),
            icc=icc,
            dpi=_dpi(image),
            gray=gray,
            lossy=image.format in _LOSSY or _is_lossy_webp(path, image),
            cicp=(nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None,
        )


def decoded_bytes(path: Path) -> int:
    """Return the approximate size of a decoded photo from its header; 0 if it can't be read."""
    with suppress(Exception), Image.open(path, formats=supported_formats()) as image:
        return image.width * image.height * (6 if image.mode.startswith("I;16") else 3)
    return 0


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photo atomically in the format of the suffix, and create missing parent folders.

    PNG, TIFF (Deflate) and BMP are lossless. JPEG, AVIF and HEIC have quality 95 and no chroma
    subsampling. WebP has quality 95 for a lossy source, and is lossless otherwise.

    16 bits are rounded to 10 bits in HEIC, and to 8 bits in JPEG, WebP, AVIF and BMP. BMP drops
    EXIF and the profile. WebP, AVIF and HEIC drop the resolution. TIFF drops the tags of the first
    EXIF directory except for the text tags. Gray becomes RGB in WebP. Gray with alpha becomes RGBA
    in WebP, BMP, AVIF and HEIC, and with 16 bits also in TIFF.

    Raises:
        UserError: the format is unknown, does not support the alpha channel or size of the photo,
            or needs a package that is not installed; the file can't be written.
    """
    form = format_for(path)
    try:
        content = _encode(photo, form)
    except (OSError, ValueError, struct.error) as error:  # such as a side too long for the format
        raise UserError(f"can't write {path} ({error}): choose .png") from error
    write_atomic(path, content)


def _frames(path: Path, image: Image.Image) -> int:
    """Return the number of frames or pages, without thumbnails and camera previews."""
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if count > 1 and isinstance(image, TiffImageFile):
        with tifffile.TiffFile(path) as file:
            return sum(not page.aspage().is_reduced for page in file.pages)
    return count


def _read_16_bit(path: Path, image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Return 16-bit RGB and alpha."""
    if not image.has_transparency_data:
        return read_high_bit_depth(path, image), None
    if image.mode.startswith("I;16"):  # one level of gray is transparent
        rgb = read_high_bit_depth(path, image)
        opaque = rgb[..., 0] != image.info["transparency"]
        return rgb, np.where(opaque, 65535, 0).astype(np.uint16)
    channels = read_high_bit_depth(path, image, alpha=True)
    rgb, alpha = np.ascontiguousarray(channels[..., :3]), channels[..., 3].copy()
    if isinstance(image, TiffImageFile) and _PREMULTIPLIED in image.tag_v2.get(
        Tag.ExtraSamples, ()
    ):
        share = np.maximum(alpha, 1)[..., None] / np.float32(65535)
        rgb = np.rint(np.minimum(rgb / share, 65535)).astype(np.uint16)
    return rgb, alpha


def _read_8_bit(
    upright: Image.Image, icc: bytes | None
) -> tuple[Pixels, Pixels | None, bytes | None]:
    """Return 8-bit RGB, alpha, and the ICC profile of the converted pixels."""
    if upright.mode == "CMYK":
        upright, icc = _to_srgb(upright, icc)
    alpha = None
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        alpha = np.array(upright.getchannel("A"))
    return np.array(upright.convert("RGB")), alpha, icc


def _to_srgb(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Convert CMYK to sRGB, with the profile if it is valid; also return the new profile."""
    if icc:
        with suppress(ImageCms.PyCMSError, OSError):
            srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(icc), srgb, intent, "RGB", flags=flags
            )
            if converted is not None:
                return converted, srgb.tobytes()
    return image.convert("RGB"), None


def _exif(image: Image.Image, width: int, height: int) -> bytes | None:
    """Return the EXIF block with the size and orientation of the upright pixels."""
    with suppress(Exception):  # damaged EXIF must not prevent the restoration
        if isinstance(image, TiffImageFile):
            block = exif_from_tiff(image)
        elif "exif" in image.info:
            block = image.info["exif"]
        else:  # PNG text chunk of ImageMagick
            text = image.info.get("Raw profile type exif", "")
            block = bytes.fromhex("".join(text.split("\n")[3:]))
        if block:
            return make_upright(block.removeprefix(b"Exif\0\0"), width, height)
    return None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution if it is from 1 to 65535 pixels per inch."""
    across, down = (float(value) for value in image.info.get("dpi", (0, 0)))
    return (across, down) if 1 <= across <= 65535 and 1 <= down <= 65535 else None


def _is_gray_png(path: Path, image: Image.Image) -> bool:
    """Return whether a PNG is gray with alpha, which Pillow opens as RGBA if it has 16 bits."""
    with path.open("rb") as file:
        return image.format == "PNG" and file.read(26)[25] == 4


def _is_lossy_webp(path: Path, image: Image.Image) -> bool:
    """Return whether a file is a lossy WebP, by the name of the chunk with the pixels."""
    if image.format != "WEBP":
        return False
    chunk = re.search(rb"VP8[ L]", path.read_bytes())
    return chunk is None or chunk[0] == b"VP8 "


def _encode(photo: Photo, form: Format) -> bytes:
    """Encode a photo. Any error means that the format does not support the photo."""
    pixels, alpha = photo.pixels, photo.alpha
    if form.opaque and alpha is not None:
        if (alpha != np.iinfo(alpha.dtype).max).any():
            raise ValueError(f"{form.title} does not support transparency")
        alpha = None
    if photo.gray:  # mean of the channels, rounded
        total = pixels.sum(2, dtype=np.uint32, keepdims=True)
        pixels = ((total + 1) // 3).astype(pixels.dtype)
    if pixels.dtype == np.uint16 and not form.deep:
        pixels = to_uint8(to_float(pixels))
        alpha = None if alpha is None else to_uint8(to_float(alpha))
    channels = pixels if alpha is None else np.concatenate((pixels, alpha[..., None]), 2)
    deep = channels.dtype == np.uint16
    if channels.shape[2] == 2 and form.pillow in ("BMP", "HEIF", "TIFF" if deep else ""):
        channels = channels[..., [0, 0, 0, 1]]  # few programs support gray with alpha
    count = channels.shape[2]
    exif, icc, dpi = photo.exif, photo.icc, photo.dpi
    if icc and icc[16:20] == b"GRAY" and (count > 2 or form.pillow in ("WEBP", "AVIF")):
        icc = None  # invalid for RGB
    if form.pillow == "TIFF":
        return encode_tiff(channels, exif, icc, dpi)
    if form.pillow == "HEIF":
        return encode_heic(channels, exif, icc, photo.cicp, _QUALITY)
    if form.pillow == "BMP" and count == 4:
        return encode_bmp(channels.astype(np.uint8), dpi)
    if deep:
        return encode_deep_png(channels.astype(np.uint16), exif, icc, dpi)
    options: dict[str, Any] = {"quality": _QUALITY, "icc_profile": icc}
    options["exif"] = b"Exif\0\0" + exif if exif else b""
    if dpi:
        options["dpi"] = dpi
    if form.pillow == "WEBP":
        options |= {"lossless": not photo.lossy, "exact": not photo.lossy}
    elif form.pillow in ("JPEG", "AVIF"):
        options["subsampling"] = "4:0:0" if form.pillow == "AVIF" and count == 1 else "4:4:4"
        options["speed"] = _AVIF_SPEED
    image = Image.fromarray(channels[..., 0] if count == 1 else channels)
    if form.pillow == "PNG":
        return encode_png(image, **options)
    file = io.BytesIO()
    image.save(file, form.pillow, **options)
    return file.getvalue()
