"""Encoding what neither Pillow nor OpenCV can: 16 bits with transparency, EXIF and a profile."""

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from mprnet_lit.data.exif import TEXTS, add_directories

_METRES_PER_INCH = 0.0254

Dpi = tuple[float, float]


def encode_deep_png(
    channels: NDArray[np.uint16],
    exif: bytes | None = None,
    icc: bytes | None = None,
    dpi: Dpi | None = None,
) -> bytes:
    """Return a PNG of (H, W, 1 to 4) pixels: grey, grey and alpha, RGB, RGB and alpha.

    ``exif`` begins with a TIFF header; ``dpi`` is across and down.
    """
    height, width, count = channels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if dpi:
        density = (round(value / _METRES_PER_INCH) for value in dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *density, 1)))
    if exif:
        chunks.append((b"eXIf", exif))
    # Filter 1 of the PNG specification: each byte less its left neighbour's, modulo 256.
    rows = channels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.ones((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 1:] = rows
    filtered[:, 1 + 2 * count :] -= rows[:, : -2 * count]
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        checksum = zlib.crc32(data, zlib.crc32(name))
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", checksum)]
    return b"".join(parts)


def encode_tiff(
    channels: NDArray[Any],
    exif: bytes | None = None,
    icc: bytes | None = None,
    dpi: Dpi | None = None,
) -> bytes:
    """Return a deflated TIFF of (H, W, 1 to 4) pixels of 8 or 16 bits; else as the PNG."""
    count = channels.shape[2]
    tags = Image.Exif()
    tags.load(exif or b"")
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        channels[..., 0] if count == 1 else channels,
        byteorder="<",
        photometric="rgb" if count > 2 else "minisblack",
        planarconfig=None if count == 1 else "contig",
        extrasamples=None if count % 2 else ["unassalpha"],
        compression="adobe_deflate",
        predictor=True,
        iccprofile=icc,
        resolution=(_ratio(dpi[0]), _ratio(dpi[1])) if dpi else None,
        resolutionunit="inch" if dpi else None,
        software="",
        metadata=None,
        extratags=[(tag, "s", 0, str(tags[tag]).encode(), True) for tag in TEXTS if tag in tags],
    )
    return add_directories(file.getvalue(), tags)


def _ratio(value: float) -> tuple[int, int]:
    return Fraction(value).limit_denominator(10000).as_integer_ratio()
