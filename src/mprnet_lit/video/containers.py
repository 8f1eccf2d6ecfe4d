"""Noticing that a video was cut short, by the lengths that its container gives.

Decoders take most such files for shorter videos.
"""

import io
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_NEEDED_BOXES = (b"mdat", b"moov", b"moof")


def is_cut_short(path: Path) -> bool:
    """Tell whether a file ends before its container says: MP4, MOV, Matroska, WebM or AVI.

    False if the container says nothing, as of a recording that was broken off.

    Raises:
        OSError: it can't be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        file.seek(0)
        if start[:4] == b"RIFF":
            return int.from_bytes(start[4:8], "little") + 8 > size
        if start[:4] == _EBML:
            return _matroska_end(file) > size
        return _box_end(file, size) > size


def _matroska_end(file: BinaryIO) -> int:
    """Return where the segment that follows the header ends, 0 if that is not said."""
    file.seek(4)
    file.seek(_element_size(file) or 0, io.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    size = _element_size(file)
    return 0 if size is None else file.tell() + size


def _element_size(file: BinaryIO) -> int | None:
    """Read a length (RFC 8794, section 4): as many bytes follow the first as it has leading zeros.

    All ones stand for unknown.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big")
    limit = 1 << 7 * (more + 1)
    return None if value % limit == limit - 1 else value % limit


def _box_end(file: BinaryIO, size: int) -> int:
    """Return where the last needed box (ISO 14496-12, section 4.2) ends; what follows may be junk.

    A length of 1 is given after the name, one of 0 means the file's end.
    """
    start = end = 0
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
    return end
