"""Encoding of restored frames in segments, and muxing of the segments into the output."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.video.batches import Batch
from mprnet_lit.video.color import Color, new_scaler, to_frame
from mprnet_lit.video.reading import write_errors
from mprnet_lit.video.segments import Segment, Segments

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

Frames = NDArray[np.uint8]


@dataclass
class Writer:
    """Encoder and muxer of one video.

    The decoding times of the segments are shifted as if one encoder had encoded the whole video.

    Attributes:
        destination: path of the output, for error messages.
        output: output, whose header is written.
        stream: video stream of the output.
        copies: copied streams of the output by source stream.
        color: color tags of the output.
        create_encoder: function that returns a stream with a new encoder.
        measure: function that returns the change of a frame, given its RGB values before and after.
            Several threads may call it.
        segments: work folder of the segments; ``None`` to keep none.
        reused: number of segments that are read from the work folder.
        changes: changes of all written frames.
    """

    destination: Path
    output: "OutputContainer"
    stream: "VideoStream"
    copies: "dict[Stream, Stream]"
    color: Color
    create_encoder: "Callable[[], VideoStream]"
    measure: Callable[[Frames, Frames], float]
    segments: Segments | None
    reused: int
    changes: list[float] = field(default_factory=list)
    _scaler: "VideoReformatter" = field(default_factory=new_scaler)
    _scaler_lock: Lock = field(default_factory=Lock)
    _encoder: "VideoStream | None" = None
    _segment: Segment = field(default_factory=Segment)
    _copies: "list[Packet[Any]]" = field(default_factory=list)
    _delayed: list[int] = field(default_factory=list)

    def prepare(self, batch: Batch, restored: Frames | None) -> Callable[[], None]:
        """Convert the frames of a batch to the pixel format of the encoder, and drop the originals.

        Several threads may call this method. They share one scaler.

        Args:
            batch: batch of the decoder.
            restored: restored frames, uint8 (N, H, W, 3); ``None`` if the batch has no frames.

        Returns:
            Function that encodes the batch, to be called in the order of the batches. The last
            batch of a segment writes the segment to the output. The function raises UserError if
            the output or a segment can't be written, or a segment is damaged.
        """
        frames: list[VideoFrame] = []
        changes: list[float] = []
        if restored is not None:
            for before, after, times in zip(batch.frames, restored, batch.times, strict=True):
                changes.append(self.measure(before[..., :3], after))
                frames.append(self._convert(before, after, *times))
        batch.frames.clear()
        return partial(self._write, batch, frames, changes)

    def _convert(self, before: Frames, after: Frames, pts: int, duration: int) -> "VideoFrame":
        """Return a frame for the encoder, with the alpha channel of the source."""
        pixels = np.dstack((after, before[..., 3:])) if before.shape[2] == 4 else after
        context = self.stream.codec_context
        with self._scaler_lock:
            frame = to_frame(pixels, str(context.pix_fmt), self.color, self._scaler)
        frame.pts, frame.duration, frame.time_base = pts, duration, context.time_base
        return frame

    def _write(self, batch: Batch, frames: "list[VideoFrame]", changes: list[float]) -> None:
        """Encode the frames of a batch."""
        self._copies += batch.copies
        self._segment.changes += changes
        with write_errors(self.destination):
            for frame in frames:
                self._encoder = self._encoder or self.create_encoder()
                self._segment.packets += self._encoder.encode(frame)
        if batch.ends_segment:
            self._finish(batch.segment)

    def _finish(self, number: int) -> None:
        """Write the current segment to the work folder and to the output."""
        segment, self._segment = self._segment, Segment()
        if self._encoder is not None:
            with write_errors(self.destination):
                segment.packets += self._encoder.encode(None)
            self._encoder = None
            if self.segments is not None:
                self.segments.save(number, segment)
        elif self.segments is not None and number < self.reused:
            segment = self.segments.load(number)
        self.changes += segment.changes
        self._shift(segment.packets, is_first=number == 0)
        for packet in segment.packets:
            packet.stream, packet.time_base = self.stream, self.stream.codec_context.time_base
        for packet in self._copies:
            packet.stream = self.copies[packet.stream]
        with write_errors(self.destination):
            for packet in heapq.merge(self._copies, segment.packets, key=_seconds):
                self.output.mux(packet)
        self._copies = []

    def _shift(self, packets: "list[Packet[Any]]", *, is_first: bool) -> None:
        """Replace the decoding times of a segment, except the first, by those of one encoder.

        An encoder that reorders frames by up to N positions decodes a frame at the time stamp of
        the frame N positions earlier. A new encoder does not know the time stamps before its first
        frame.
        """
        times = sorted(packet.pts or 0 for packet in packets)
        if is_first:
            delay = sum((packet.dts or 0) < times[0] for packet in packets)
            self._delayed = times[len(times) - delay :]
            return
        times = self._delayed + times
        for packet, time in zip(packets, times, strict=False):
            packet.dts = time
        self._delayed = times[len(packets) :]


def _seconds(packet: "Packet[Any]") -> float:
    """Return the decoding time of a packet in seconds."""
    time = packet.pts if packet.dts is None else packet.dts
    return -1.0 if time is None else float(time * packet.time_base)
