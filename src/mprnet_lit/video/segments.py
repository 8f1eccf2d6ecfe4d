"""Encoded segments of an unfinished video, from which a killed restoration resumes."""

import hashlib
import io
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from zipfile import BadZipFile

import numpy as np

from mprnet_lit.utils.atomic import temporary_folder_name, write_atomic
from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from av.packet import Packet

SECONDS = 5
"""Duration of a segment. Each segment starts with a new encoder, and so with a key frame."""
MIN_FRAMES = 4
"""Minimum number of frames of a segment: more than the number of frames that encoders reorder."""
_ALPHA: Final = "matroska_block_additional"
"""Side data of a packet in which VP9 has its alpha channel."""


@dataclass
class Segment:
    """Consecutive frames of a video, encoded.

    Attributes:
        packets: packets in decoding order.
        changes: measured change of each frame by the restoration.
    """

    packets: "list[Packet[Any]]" = field(default_factory=list)
    changes: list[float] = field(default_factory=list)


class Segments:
    """Work folder with the encoded segments of an unfinished video.

    The names of the files contain a digest of everything that determines their content. Each file
    is written atomically when its segment is complete, so that an existing file is complete.

    Args:
        folder: work folder. The first segment creates it, and :meth:`remove` deletes it.
        key: text that identifies the content of the source and the options of the restoration.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = folder, key

    def start(self, *settings: object) -> int:
        """Return the number of segments to reuse. Segments of other settings are kept.

        Args:
            settings: settings of the encoder, which determine the segments together with the key.
        """
        text = repr((self._key, SECONDS, MIN_FRAMES, *settings))
        self._key = hashlib.sha256(text.encode()).hexdigest()[:16]
        count = 0
        while self._path(count).is_file():
            count += 1
        return count

    def load(self, number: int) -> Segment:
        """Read a segment.

        Raises:
            UserError: the file is damaged.
        """
        try:
            with np.load(self._path(number)) as stored:
                table, changes = stored["table"], stored["changes"].tolist()
                data, side = memoryview(stored["data"]), memoryview(stored["side"])
            return Segment(list(_unpack(table, data, side)), changes)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UserError(
                f"the unfinished video {self._path(number)} is damaged ({error}): "
                f"remove {self.folder}"
            ) from error

    def save(self, number: int, segment: Segment) -> None:
        """Write a segment atomically.

        Raises:
            UserError: the file can't be written.
        """
        table, data, side = _pack(segment.packets)
        buffer = io.BytesIO()
        np.savez(buffer, table=table, data=data, side=side, changes=segment.changes)
        write_atomic(self._path(number), buffer.getbuffer(), "the unfinished video")

    def remove(self) -> None:
        """Delete the work folder, with the segments of all settings.

        If the process is killed meanwhile, the next process that writes to the parent folder
        deletes the rest (not on Windows).
        """
        renamed = self.folder.with_name(temporary_folder_name(secrets.token_hex(8)))
        with suppress(OSError):  # missing
            self.folder.rename(renamed)
            shutil.rmtree(renamed, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{self._key}-{number:06}.npz"


def _pack(packets: "Sequence[Packet[Any]]") -> tuple[Any, Any, Any]:
    """Return a table with a row for each packet, all data, and all side data."""
    sides = [bytes(packet.get_sidedata(_ALPHA)) for packet in packets]
    rows = [
        (p.pts, p.dts, p.duration or 0, p.is_keyframe, p.size, len(side))
        for p, side in zip(packets, sides, strict=True)
    ]
    data = np.frombuffer(b"".join(map(bytes, packets)), np.uint8)
    return np.array(rows, np.int64), data, np.frombuffer(b"".join(sides), np.uint8)


def _unpack(table: Any, data: memoryview, side: memoryview) -> "Iterator[Packet[Any]]":
    """Yield the packets of :func:`_pack`."""
    import av
    from av.packet import PacketSideData, packet_sidedata_type_from_literal

    create = cast(Any, PacketSideData)  # the type stubs lack its arguments
    start = side_start = 0
    for pts, dts, duration, is_key, size, side_size in table.tolist():
        packet: Packet[Any] = av.Packet(bytes(data[start : start + size]))
        packet.pts, packet.dts, packet.duration = pts, dts, duration
        packet.is_keyframe = bool(is_key)
        if side_size:
            added = create(packet_sidedata_type_from_literal(_ALPHA), side_size)
            added.update(bytes(side[side_start : side_start + side_size]))
            packet.set_sidedata(added)
        start, side_start = start + size, side_start + side_size
        yield packet
