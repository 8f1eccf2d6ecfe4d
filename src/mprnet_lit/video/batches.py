"""Decoding of a video into batches of RGB frames, with the packets of its other streams."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import frame_color, new_scaler, to_rgb
from mprnet_lit.video.reading import Source, create_decoder, demux, frame_errors, read_errors
from mprnet_lit.video.segments import MIN_FRAMES, SECONDS

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame


class UnusableVideoError(UserError):
    """Error in the frames of a video. It occurs again whenever the video is restored."""


@dataclass
class Batch:
    """Consecutive frames of one segment.

    Attributes:
        segment: number of the segment.
        copies: packets of other streams that were read since the previous batch.
        times: time stamp and duration of each frame, in units of the time base of the encoder.
        frames: RGB or RGBA frames, uint8 (H, W, 3) or (H, W, 4); empty if the segment is reused.
        ends_segment: whether the batch is the last of its segment.
    """

    segment: int
    copies: "list[Packet[Any]]" = field(default_factory=list)
    times: list[tuple[int, int]] = field(default_factory=list)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    ends_segment: bool = False


@dataclass(frozen=True)
class Decoding:
    """Options of the decoding of a video.

    Attributes:
        source: opened video.
        copies: other streams to read.
        base: time base of the encoder in seconds.
        alpha: whether the frames are RGBA.
        size: maximum number of frames of a batch.
        reused: number of segments that are reused. Their frames are decoded, but not converted.
    """

    source: Source
    copies: "tuple[Stream, ...]"
    base: Fraction
    alpha: bool
    size: int
    reused: int

    def batches(self) -> Iterator[Batch]:
        """Yield the frames in batches; no batch extends over the end of a segment.

        Raises:
            UnusableVideoError: the video is damaged, or changes its size or colors midway.
        """
        try:
            yield from self._batches()
        except UserError as error:
            raise UnusableVideoError(str(error)) from error

    def _batches(self) -> Iterator[Batch]:
        source, base, scaler = self.source, self.base, new_scaler()
        decoder = create_decoder(source.stream)
        decoder.options = {"err_detect": "crccheck+explode"}
        batch, count, start, last = Batch(0), 0, 0, -1  # frames and start of the segment
        for packet in demux(source.path, source.container, source.stream, *self.copies):
            if packet.stream is not source.stream:
                if packet.size:
                    batch.copies.append(packet)
                continue
            with read_errors(source.path):
                frames = decoder.decode(packet)
            for frame in frames:
                # The encoder needs increasing time stamps; some damaged files repeat a time stamp.
                ticks = (frame.time_base or base) / base
                pts = last + 1 if frame.pts is None else round(frame.pts * ticks)
                is_first = batch.segment == count == 0
                last = pts if is_first else max(pts, last + 1)
                start = last if count == 0 else start
                if count >= MIN_FRAMES and (last - start) * base >= SECONDS:
                    batch.ends_segment = True
                    yield batch
                    batch, count, start = Batch(batch.segment + 1), 0, last
                elif len(batch.frames) == self.size:
                    yield batch
                    batch = Batch(batch.segment)
                with frame_errors(source.path):
                    self._check(frame)
                    if batch.segment >= self.reused:
                        batch.frames.append(to_rgb(frame, self.alpha, scaler))
                count += 1
                batch.times.append((last, round(frame.duration * ticks)))
        batch.ends_segment = True
        yield batch

    def _check(self, frame: "VideoFrame") -> None:
        """Raise UserError if a frame is damaged or differs in size or colors from the first."""
        first = self.source.first
        if frame.is_corrupt:
            raise UserError("a frame is damaged: replace or remove the file")
        if (frame.width, frame.height) != (first.width, first.height):
            raise UserError("the frame size changes midway: split the file at the change")
        if not frame_color(frame).matches_gamut(frame_color(first)):
            raise UserError("the color tags change midway: split the file at the change")
