"""Reading and writing of photos with alpha channel, EXIF, color profile and resolution."""

import io
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.bands import row_bands
from mprnet_lit.images.encoding import (
    WriteOnly,
    encode_bmp,
    encode_deep_png,
    encode_heic,
    encode_tiff,
    png_strategy,
)
from mprnet_lit.images.exif import exif_from_tiff, make_upright
from mprnet_lit.images.formats import Format, format_for
from mprnet_lit.images.high_bit_depth import read_high_bit_depth
from mprnet_lit.images.memory import check_memory
from mprnet_lit.images.reading import Pixels, decode, open_image, round_to_8_bits
from mprnet_lit.utils.atomic import atomic_writer, write_errors
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import trim_memory

_QUALITY = 95
_AVIF_SPEED = 8
"""Encoder speed from 0 to 10. Speed 8 halves the time of the default (6) and costs 0.4 dB."""
_LARGE = 2**25
"""Size of the pixels of a large photo in bytes, such as 11 megapixels of 8 bits."""
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
        UserError: the file is missing, truncated, too large for the free memory, not an image, or
            has an unsupported format or several frames or pages.
    """
    photo = _read(path)
    if photo.pixels.nbytes >= _LARGE:
        trim_memory()  # of the decoder
    return photo


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
    with atomic_writer(path) as file, write_errors(path):
        try:
            _encode(photo, form, file)
        except (OSError, ValueError, struct.error) as error:  # such as a too long side
            if isinstance(error, OSError) and error.errno:  # such as a full disk
                raise
            raise UserError(f"can't write {path} ({error}): choose .png") from error


def _read(path: Path) -> Photo:
    with open_image(path) as (image, deep):
        check_memory(path, image, deep)
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
            rgb, alpha, icc = _read_8_bit(path, image, icc)
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
        return rgb, np.where(opaque, np.uint16(65535), np.uint16(0))
    channels = read_high_bit_depth(path, image, alpha=True)
    rgb, alpha = np.ascontiguousarray(channels[..., :3]), channels[..., 3].copy()
    if isinstance(image, TiffImageFile) and _PREMULTIPLIED in image.tag_v2.get(
        Tag.ExtraSamples, ()
    ):
        for rows in row_bands(*alpha.shape):
            share = np.maximum(alpha[rows], 1)[..., None] / np.float32(65535)
            rgb[rows] = np.rint(np.minimum(rgb[rows] / share, 65535))
    return rgb, alpha


def _read_8_bit(
    path: Path, image: Image.Image, icc: bytes | None
) -> tuple[Pixels, Pixels | None, bytes | None]:
    """Return 8-bit RGB, alpha, and the ICC profile of the converted pixels."""
    if image.mode == "CMYK":
        convert, icc = _to_srgb(icc)
        return *decode(path, image, convert), icc
    alpha = image.has_transparency_data
    return *decode(path, image, lambda band: band.convert("RGBA" if alpha else "RGB"), alpha), icc


def _to_srgb(
    icc: bytes | None,
) -> tuple[Callable[[Image.Image], Image.Image], bytes | None]:
    """Return the conversion from CMYK to sRGB, with the profile if it is valid, and the profile.

    The returned profile is that of the converted pixels.
    """
    if icc:
        with suppress(ImageCms.PyCMSError, OSError):
            srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
            intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
            flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
            transform = ImageCms.buildTransform(io.BytesIO(icc), srgb, "CMYK", "RGB", intent, flags)
            return transform.apply, srgb.tobytes()
    return lambda image: image.convert("RGB"), None


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


def _encode(photo: Photo, form: Format, file: BinaryIO) -> None:
    """Encode a photo into a file. Other errors than those of the file mean an unsupported photo."""
    channels = _channels(photo, form)
    if channels.nbytes >= _LARGE:
        trim_memory()  # of the tiles, before the encoder copies the pixels
    deep = channels.dtype == np.uint16
    count = channels.shape[2]
    exif, icc, dpi = photo.exif, photo.icc, photo.dpi
    if icc and icc[16:20] == b"GRAY" and (count > 2 or form.pillow in ("WEBP", "AVIF")):
        icc = None  # invalid for RGB
    if form.pillow == "TIFF":
        return encode_tiff(file, channels, exif, icc, dpi)
    if form.pillow == "HEIF":
        return encode_heic(file, channels, exif, icc, photo.cicp, _QUALITY)
    if form.pillow == "BMP" and count == 4:
        return encode_bmp(file, channels.astype(np.uint8, copy=False), dpi)
    if deep:
        return encode_deep_png(file, channels.astype(np.uint16, copy=False), exif, icc, dpi)
    options: dict[str, Any] = {"quality": _QUALITY, "icc_profile": icc}
    options["exif"] = b"Exif\0\0" + exif if exif else b""
    if dpi:
        options["dpi"] = dpi
    if form.pillow == "WEBP":
        options |= {"lossless": not photo.lossy, "exact": not photo.lossy}
    elif form.pillow in ("JPEG", "AVIF"):
        options["subsampling"] = "4:0:0" if form.pillow == "AVIF" and count == 1 else "4:4:4"
        options["speed"] = _AVIF_SPEED
    elif form.pillow == "PNG":
        options["compress_type"] = png_strategy(channels.astype(np.uint8, copy=False))
    image = Image.fromarray(channels[..., 0] if count == 1 else channels)
    # Without a file descriptor, Pillow reports the reason of a failed write.
    image.save(cast(BinaryIO, WriteOnly(file)), form.pillow, **options)


def _channels(photo: Photo, form: Format) -> Pixels:
    """Return the pixels (H, W, C) to encode, C = 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA)."""
    pixels, alpha = photo.pixels, photo.alpha
    peak = np.iinfo(pixels.dtype).max
    if form.opaque and alpha is not None:
        if (alpha != peak).any():
            raise ValueError(f"{form.title} does not support transparency")
        alpha = None
    deep = pixels.dtype == np.uint16 and form.deep
    if not photo.gray and alpha is None and (deep or pixels.dtype == np.uint8):
        return pixels
    # Few programs support gray with alpha.
    gray_alpha = form.pillow not in ("BMP", "HEIF", "TIFF" if deep else "")
    colors = 1 if photo.gray and (alpha is None or gray_alpha) else 3
    channels = np.empty(
        (*pixels.shape[:2], colors + (alpha is not None)), np.uint16 if deep else np.uint8
    )
    for rows in row_bands(*pixels.shape[:2]):
        band = pixels[rows]
        if photo.gray:  # mean of the channels, rounded
            band = ((band.sum(2, dtype=np.uint32, keepdims=True) + 1) // 3).astype(pixels.dtype)
        parts = [(slice(colors), band)]
        if alpha is not None:
            parts.append((slice(colors, None), alpha[rows, :, None]))
        for part, values in parts:
            channels[rows, :, part] = values if deep else round_to_8_bits(values)
    return channels
