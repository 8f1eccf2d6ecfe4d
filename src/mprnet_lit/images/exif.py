"""EXIF blocks: made to fit upright pixels, in place, so that what is not understood stays whole.

A block is a small TIFF file: a header, then directories of 12-byte entries (EXIF 2.32, 4.6.2).
Maker notes hold offsets into the block, which writing it anew would break.
"""

import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

ORIENTATION, EXIF, GPS = 0x0112, 0x8769, 0x8825
TEXTS = (270, 271, 272, 305, 306, 315, 33432)
"""What a TIFF's first directory says of a photo: title, camera, program, date, artist, rights."""
_WIDTH, _HEIGHT = 0xA002, 0xA003
_SHORT, _LONG = 3, 4


def make_upright(block: bytes, width: int, height: int) -> bytes:
    """Return the block with orientation 1, that size, and without its thumbnail.

    The thumbnail shows the image before it was turned and restored. It is unlinked, so that no
    reader finds it; its bytes stay.

    Raises:
        ValueError: it is damaged.
    """
    changed = bytearray(block)
    try:
        order, start = _header(block)
        end = start + 2 + 12 * struct.unpack_from(order + "H", block, start)[0]
        struct.pack_into(order + "I", changed, end, 0)
        for tag, at in _entries(block, order, start):
            if tag == ORIENTATION:
                _set(changed, order, at, 1)
            elif tag == EXIF:
                (inner,) = struct.unpack_from(order + "I", block, at + 8)
                for size_tag, size_at in _entries(block, order, inner):
                    if size_tag in (_WIDTH, _HEIGHT):
                        _set(changed, order, size_at, width if size_tag == _WIDTH else height)
    except struct.error as error:
        raise ValueError("its EXIF is cut short") from error
    return bytes(changed)


def without_orientation(tiff: bytes) -> bytes:
    """Return a TIFF file that says orientation 1.

    Raises:
        ValueError: it is not a TIFF with 32-bit offsets.
    """
    changed = bytearray(tiff)
    order, start = _header(tiff)
    for tag, at in _entries(tiff, order, start):
        if tag == ORIENTATION:
            _set(changed, order, at, 1)
    return bytes(changed)


def exif_from_tiff(image: TiffImageFile) -> bytes | None:
    """Return an EXIF block of a TIFF's texts, EXIF and GPS directories, or None without any."""
    tags = image.getexif()
    kept: dict[int, Any] = {tag: tags[tag] for tag in TEXTS if tag in tags}
    kept |= {tag: found for tag in (EXIF, GPS) if (found := dict(tags.get_ifd(tag)))}
    if not kept:
        return None
    exif = Image.Exif()
    exif.update(kept)
    return exif.tobytes().removeprefix(b"Exif\0\0")


def add_directories(tiff: bytes, exif: Image.Exif) -> bytes:
    """Return a TIFF file with the EXIF and GPS directories of ``exif``.

    They are appended, and after them the first directory anew, with pointers to them.
    """
    found = {tag: entries for tag in (EXIF, GPS) if (entries := exif.get_ifd(tag))}
    if not found:
        return tiff
    order, start = _header(tiff)
    changed = bytearray(tiff)
    first = {tag: tiff[at : at + 12] for tag, at in _entries(tiff, order, start)}
    for tag, entries in found.items():
        changed += bytes(len(changed) % 2)  # a directory starts at an even byte
        header = tiff[:4] + bytes(4)
        directory = ImageFileDirectory_v2(header, group=tag)
        directory.update(entries)
        first[tag] = struct.pack(order + "HHII", tag, _LONG, 1, len(changed))
        changed += directory.tobytes(len(changed))
    changed += bytes(len(changed) % 2)
    struct.pack_into(order + "I", changed, 4, len(changed))
    changed += struct.pack(order + "H", len(first))
    changed += b"".join(first[tag] for tag in sorted(first)) + bytes(4)
    return bytes(changed)


def _header(block: bytes) -> tuple[str, int]:
    """Return the byte order and where the first directory starts."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        raise ValueError("its tags are stored in an unsupported way")
    (start,) = struct.unpack_from(order + "I", block, 4)
    return order, start


def _entries(block: bytes, order: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield each entry's tag and where it starts."""
    (count,) = struct.unpack_from(order + "H", block, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        yield struct.unpack_from(order + "H", block, at)[0], at


def _set(block: bytearray, order: str, at: int, value: int) -> None:
    """Change an entry's number, if it is one."""
    kind, count = struct.unpack_from(order + "HI", block, at + 2)
    if count == 1 and kind in (_SHORT, _LONG):
        struct.pack_into(order + ("H" if kind == _SHORT else "I"), block, at + 8, value)
