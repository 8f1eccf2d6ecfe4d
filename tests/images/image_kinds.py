"""Small image files in all pixel formats, written by hand or by other libraries."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

_Y, _X = np.mgrid[0:16, 0:32]
RGBA = np.stack((_X * 7 % 256, _Y * 15 % 256, (_X + _Y) * 5 % 256, 255 - _X * 8), -1).astype("u1")
"""RGBA image (16, 32, 4) with different channels and pixels."""
RGB, RED, ALPHA = RGBA[..., :3], RGBA[..., 0], RGBA[..., 3]
GRAY = RED[..., None].repeat(3, 2)
MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def deep(pixels: NDArray[Any]) -> Any:
    """Convert 8-bit pixels to 16 bits with nonzero low bytes."""
    return (pixels.astype(np.uint16) << 8) + pixels[::-1]


def saved(image: Image.Image, **options: Any) -> Callable[[Path], object]:
    return lambda path: image.save(path, **options)


def tiff(pixels: NDArray[Any], **options: Any) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, pixels, metadata=None, **options)


def pages(*written: Any) -> Callable[[Path], object]:
    """Return a function that writes a TIFF with one page per (pixels, options)."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            for pixels, options in written:
                file.write(pixels, photometric="rgb", metadata=None, **options)

    return write


def bmp(
    rows: bytes, compression: int = 0, masks: Any = (), header: int = 40, bits: int = 32
) -> Callable[[Path], object]:
    """Return a function that writes a bottom-up BMP with a header of the given size."""
    height, width = RGB.shape[:2]
    fields = (header, width, height, 1, bits, compression, len(rows), 2835, 2835, 0, 0)
    head = struct.pack("<IiiHHIIiiII", *fields) + struct.pack(f"<{len(masks)}I", *masks)
    head = head.ljust(header, b"\0")
    start = 14 + len(head)
    whole = b"BM" + struct.pack("<III", start + len(rows), 0, start) + head + rows
    return lambda path: path.write_bytes(whole)


def bgr(fourth: Any) -> Any:
    """Return the BMP rows of the RGB image with a fourth byte per pixel."""
    return np.concatenate((RGB[::-1, :, ::-1], fourth[::-1, :, None]), 2).tobytes()


YCBCR = np.asarray(Image.fromarray(RGB).convert("YCbCr"))


def subsampled_ycbcr(across: int, down: int) -> Callable[[Path], object]:
    """Return a function that writes a TIFF with subsampled YCbCr (TIFF 6.0, section 21)."""
    height, width = RGB.shape[:2]
    blocks = YCBCR.reshape(height // down, down, width // across, across, 3).swapaxes(1, 2)
    colors = blocks[..., 1:].mean((2, 3)).round().astype("u1")
    luma = blocks[..., 0].reshape(*blocks.shape[:2], -1)
    data = np.concatenate((luma, colors), 2).tobytes()
    levels = struct.pack("<12I", *(0, 1, 255, 1), *(128, 1, 255, 1) * 2)
    tags = {  # number: (type, count, value or offset)
        256: (3, 1, width), 257: (3, 1, height), 258: (3, 3, 0), 259: (3, 1, 1), 262: (3, 1, 6),
        273: (4, 1, 0), 277: (3, 1, 3), 278: (3, 1, height), 279: (4, 1, len(data)),
        530: (3, 2, across | down << 16), 532: (5, 6, 0),
    }  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    places = {258: start, 532: start + 6, 273: start + 6 + len(levels)}
    entries = b"".join(
        struct.pack("<HHII", tag, kind, count, places.get(tag, value))
        for tag, (kind, count, value) in tags.items()
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    whole = head + struct.pack("<3H", 8, 8, 8) + levels + data
    return lambda path: path.write_bytes(whole)
