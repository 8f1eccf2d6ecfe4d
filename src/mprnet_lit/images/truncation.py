"""Detection of truncated image files and decompression bombs, mostly without decoding."""

import os
import re
import struct
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.ExifTags import Base as Tag
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

_MAX_SCANS = 100
"""Maximum number of JPEG scans. Encoders write about ten; decoding takes a pass per scan."""
_CODED_SIZE = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
"""Image size property (ISO 23008-12, section 6.5.3)."""
_REQUIRED_BOXES = (b"mdat", b"moov", b"moof")
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"
_TAIL = 2**16
"""Bytes at the end of a PNG that are searched for its last chunks; EXIF is at most as long."""


def check_complete(path: Path, image: Image.Image, *, full: bool = True) -> None:
    """Check that an image file is not truncated and not a decompression bomb.

    Args:
        path: path of the file.
        image: image that Pillow opened from the file.
        full: whether to read the whole file: to check the checksums of a PNG, to count the scans of
            a progressive JPEG, and to find the coded sizes in a HEIC or AVIF. Otherwise only the
            start and the end of the file are read. A BMP is always read as a whole.

    Raises:
        ValueError: the file is truncated, or would take hours to decode.
        DecompressionBombError: a HEIC or AVIF is a crop of an image that is too large.
    """
    size = path.stat().st_size
    complete = True
    if isinstance(image, TiffImageFile):
        complete = _has_all_strips(image, size)
    elif image.format == "PNG":
        if full:
            with Image.open(path, formats=("PNG",)) as unread:
                unread.verify()  # checks all checksums except that of the last chunk
        complete = _PNG_END in read_tail(path) or _PNG_END in path.read_bytes()
    elif image.format == "WEBP":
        with path.open("rb") as file:
            complete = size >= int.from_bytes(file.read(8)[4:], "little") + 8
    elif image.format in ("JPEG", "MPO"):
        complete = _jpeg_ends(path, size, count_scans=full)
    elif image.format in ("AVIF", "HEIF"):
        if full:
            _check_coded_size(path)
        complete = _last_box_ends(path, size)
    else:
        image.load()
    if not complete:
        raise ValueError("truncated")


def read_tail(path: Path) -> bytes:
    """Return the last 64 KB of a file, or the whole file if it is smaller."""
    with path.open("rb", buffering=0) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
        return file.read(_TAIL)


def _has_all_strips(image: TiffImageFile, size: int) -> bool:
    """Return whether a TIFF of ``size`` bytes contains all strips or tiles of its directory."""
    tags = image.tag_v2
    starts = tags.get(Tag.StripOffsets) or tags.get(Tag.TileOffsets) or ()
    lengths = tags.get(Tag.StripByteCounts) or tags.get(Tag.TileByteCounts) or (0,) * len(starts)
    ends = [start + length for start, length in zip(starts, lengths, strict=False)]
    # Pillow ignores a truncated directory; ``next`` is then still the offset of this directory.
    return bool(ends) and max(ends) <= size and tags.next != tags.offset


def _check_coded_size(path: Path) -> None:
    """Check the sizes of the coded images, which the container may crop."""
    for width, height in _CODED_SIZE.findall(path.read_bytes()):
        pixels = int.from_bytes(width, "big") * int.from_bytes(height, "big")
        if pixels > 2 * (Image.MAX_IMAGE_PIXELS or pixels):
            raise Image.DecompressionBombError


def _last_box_ends(path: Path, size: int) -> bool:
    """Return whether every required box (ISO 14496-12, section 4.2) ends inside the file.

    A length of 1 is followed by a 64-bit length; a length of 0 means the end of the file.
    """
    start = end = 0
    with path.open("rb") as file:
        while start + 8 <= size:
            file.seek(start)
            length, name = int.from_bytes(file.read(4), "big"), file.read(4)
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            if length < 8:
                break
            start += length
            if name in _REQUIRED_BOXES:
                end = start
    return end <= size


def _jpeg_ends(path: Path, size: int, *, count_scans: bool) -> bool:
    """Return whether a JPEG has its end marker, possibly before data that a camera appended."""
    image = JpegImageFile(path)
    with image:  # positioned at the pixels, after any thumbnail
        file = image.fp
        assert file is not None
        pixels = file.tell()
        if count_scans and (
            image.info.get("progressive") or not _has_all_channels(file, image.layers, pixels)
        ):
            file.seek(pixels)  # search the whole file: a comment may contain an end marker
            if file.read().count(_JPEG_SCAN) > _MAX_SCANS:
                raise ValueError(f"over {_MAX_SCANS} scans, which would take hours to decode")
        for start in (max(pixels, size - 4096), pixels):
            file.seek(start)
            if _JPEG_END in file.read():
                return True
    return False


def _has_all_channels(file: IO[bytes], channels: int, pixels: int) -> bool:
    """Return whether the first scan has all channels, so that further scans are not decoded."""
    head = _JPEG_SCAN + struct.pack(">HB", 6 + 2 * channels, channels)
    file.seek(pixels - 2 - 6 - 2 * channels)
    return file.read(len(head)) == head
