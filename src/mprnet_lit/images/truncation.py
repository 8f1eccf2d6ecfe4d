"""Detection of truncated image files and decompression bombs, mostly without decoding."""

import re
import struct
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from mprnet_lit.images.tiff import is_complete_tiff

_MOST_SCANS = 100
"""Most scans of a JPEG. Encoders write about ten; each goes over the whole picture once more."""
_CODED_SIZE = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
"""A size of ISO 23008-12, section 6.5.3."""
_NEEDED_BOXES = (b"mdat", b"moov", b"moof")
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", b"\xff\xda"


def check_complete(path: Path, image: Image.Image) -> None:
    """Look for the end of an image file.

    Raises:
        ValueError: the file is cut short, or would take hours to decode.
        DecompressionBombError: a HEIC or AVIF shows a small part of too large a picture.
    """
    size = path.stat().st_size
    whole = True
    if isinstance(image, TiffImageFile):
        whole = is_complete_tiff(image, size)
    elif image.format == "PNG":
        with Image.open(path, formats=("PNG",)) as unread:
            unread.verify()  # reads every chunk's checksum but the last
        whole = _PNG_END in path.read_bytes()
    elif image.format == "WEBP":
        with path.open("rb") as file:
            whole = size >= int.from_bytes(file.read(8)[4:], "little") + 8
    elif image.format in ("JPEG", "MPO"):
        whole = _jpeg_ends(path, size)
    elif image.format in ("AVIF", "HEIF"):
        _check_coded_size(path)
        whole = _last_box_ends(path, size)
    else:
        image.load()
    if not whole:
        raise ValueError("cut short")


def _check_coded_size(path: Path) -> None:
    """Bound the pictures that are decoded, of which the container may show a part alone."""
    for width, height in _CODED_SIZE.findall(path.read_bytes()):
        pixels = int.from_bytes(width, "big") * int.from_bytes(height, "big")
        if pixels > 2 * (Image.MAX_IMAGE_PIXELS or pixels):
            raise Image.DecompressionBombError


def _last_box_ends(path: Path, size: int) -> bool:
    """Tell whether every needed box (ISO 14496-12, section 4.2) ends inside the file.

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
            if name in _NEEDED_BOXES:
                end = start
    return end <= size


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
