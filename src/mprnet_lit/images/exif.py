"""EXIF blocks: edits of the orientation, size and thumbnail that preserve all offsets.

A block is a small TIFF file: a header, and directories of 12-byte entries (EXIF 2.32, section
4.6.2). Maker notes contain offsets into the block, which rewriting the block would invalidate.
"""

import struct
from collections.abc import Iterator
from os import SEEK_END
from typing import Any, BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

ORIENTATION, EXIF, GPS = 0x0112, 0x8769, 0x8825
TEXT_TAGS = (270, 271, 272, 305, 306, 315, 33432)
"""Text tags of a TIFF: title, make, model, software, date, artist, copyright."""
_WIDTH, _HEIGHT = 0xA002, 0xA003
_SHORT, _LONG = 3, 4
_HEAD = 2**16
"""Bytes at the start of a TIFF file that contain its first directory."""


def make_upright(block: bytes, width: int, height: int) -> bytes:
    """Return a copy of an EXIF block or TIFF with orientation 1, a new size and no thumbnail.

    The thumbnail shows the image before restoration. The copy has no link to the directory of the
    thumbnail, but still contains the bytes of the thumbnail.

    Raises:
        ValueError: the block is damaged.
    """
    changed = bytearray(block)
    try:
        order, start = _header(block)
        next_link = start + 2 + 12 * struct.unpack_from(order + "H", block, start)[0]
        struct.pack_into(order + "I", changed, next_link, 0)
        for tag, offset in _entries(block, order, start):
            if tag == ORIENTATION:
                _set(changed, order, offset, 1)
            elif tag == EXIF:
                (inner,) = struct.unpack_from(order + "I", block, offset + 8)
                for size_tag, size_at in _entries(block, order, inner):
                    if size_tag in (_WIDTH, _HEIGHT):
                        _set(changed, order, size_at, width if size_tag == _WIDTH else height)
    except struct.error as error:
        raise ValueError("its EXIF block is truncated") from error
    return bytes(changed)


def exif_from_tiff(image: TiffImageFile) -> bytes | None:
    """Return an EXIF block with the text tags, EXIF and GPS directories of a TIFF, or ``None``."""
    tags = image.getexif()
    selected: dict[int, Any] = {tag: tags[tag] for tag in TEXT_TAGS if tag in tags}
    selected |= {tag: found for tag in (EXIF, GPS) if (found := dict(tags.get_ifd(tag)))}
    if not selected:
        return None
    exif = Image.Exif()
    exif.update(selected)
    return exif.tobytes().removeprefix(b"Exif\0\0")


def add_directories(file: BinaryIO, exif: Image.Exif) -> None:
    """Add the EXIF and GPS directories of ``exif`` to a TIFF file.

    The directories are appended, followed by a copy of the first directory with pointers to them.

    Args:
        file: file that is open for reading and writing, whose first directory precedes the pixels.
        exif: EXIF data.
    """
    found = {tag: entries for tag in (EXIF, GPS) if (entries := exif.get_ifd(tag))}
    if not found:
        return
    file.seek(0)
    head = file.read(_HEAD)
    order, start = _header(head)
    first = {tag: head[offset : offset + 12] for tag, offset in _entries(head, order, start)}
    end = file.seek(0, SEEK_END)
    for tag, entries in found.items():
        end += file.write(bytes(end % 2))  # a directory starts at an even offset
        directory = ImageFileDirectory_v2(head[:4] + bytes(4), group=tag)
        directory.update(entries)
        first[tag] = struct.pack(order + "HHII", tag, _LONG, 1, end)
        end += file.write(directory.tobytes(end))
    end += file.write(bytes(end % 2))
    file.write(struct.pack(order + "H", len(first)))
    file.write(b"".join(first[tag] for tag in sorted(first)) + bytes(4))
    file.seek(4)
    file.write(struct.pack(order + "I", end))


def _header(block: bytes) -> tuple[str, int]:
    """Return the byte order (``<`` or ``>``) and the offset of the first directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        raise ValueError("its tags have an unsupported format")
    (start,) = struct.unpack_from(order + "I", block, 4)
    return order, start


def _entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield the tag and the offset of each entry of a directory."""
    (count,) = struct.unpack_from(order + "H", block, start)
    for offset in range(start + 2, start + 2 + 12 * count, 12):
        yield struct.unpack_from(order + "H", block, offset)[0], offset


def _set(block: bytearray, order: str, offset: int, value: int) -> None:
    """Set the value of an entry that has a single integer. Other entries are unchanged."""
    kind, count = struct.unpack_from(order + "HI", block, offset + 2)
    if count == 1 and kind in (_SHORT, _LONG):
        struct.pack_into(order + ("H" if kind == _SHORT else "I"), block, offset + 8, value)
