"""Detection of truncated videos: declared length against the packets in the file."""

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_UNKNOWN_AVI_FRAMES = 1 << 30
"""Number of frames that FFmpeg writes into the AVI header of a live recording."""
_TOLERANCE = Fraction(1, 10)
"""Missing seconds that still count as complete, as declared durations are rounded."""


class LengthCheck:
    """Compares the end of each stream with its declared length.

    MP4 and MOV declare the duration of each stream, Matroska and WebM that of the file, and AVI the
    number of frames. A live recording and a fragmented MP4 may declare none of these.

    Args:
        container: opened video.
        video: stream that is restored.
    """

    def __init__(self, container: "InputContainer", video: "VideoStream") -> None:
        self._container, self._video = container, video
        self._ends: dict[Stream, Fraction] = defaultdict(Fraction)

    def add(self, packet: "Packet[Any]") -> None:
        """Record the end of a packet.

        Raises:
            ValueError: the file ends within the packet.
        """
        if packet.is_corrupt:
            raise ValueError("truncated: the last packet is incomplete")
        if packet.pts is not None and packet.time_base:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self._ends[packet.stream] = max(self._ends[packet.stream], end)

    def finish(self) -> None:
        """Compare the lengths after the last packet.

        Raises:
            ValueError: a stream ends more than 0.1 s and more than two frames before its declared
                length.
        """
        tolerance = max(_TOLERANCE, 2 / (self._video.average_rate or Fraction(25)))
        for end, declared in self._lengths():
            if end + tolerance < declared:
                raise ValueError(
                    f"truncated: it ends after {float(end):.1f} s of {float(declared):.1f} s"
                )

    def _lengths(self) -> "list[tuple[Fraction, Fraction]]":
        """Return the pairs of a measured and a declared length in seconds."""
        name, video = self._container.format.name, self._video
        if name == "avi":
            frames = video.frames if video.frames < _UNKNOWN_AVI_FRAMES else 0
            return [(self._ends[video], frames * (video.time_base or Fraction(0)))]
        if "matroska" in name:
            end = max(self._ends.values(), default=Fraction(0))
            return [(end, Fraction(self._container.duration or 0, 1_000_000))]
        streams = (video, *self._container.streams.audio) if "mp4" in name else ()
        return [
            (self._ends[stream], stream.duration * stream.time_base)
            for stream in streams
            if stream.frames and stream.duration and stream.time_base
        ]
