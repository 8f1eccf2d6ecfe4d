"""Restoration of a video frame by frame, with its sound, subtitles, time stamps and metadata."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.atomic import atomic_writer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import Color, frame_color, has_alpha, to_frame, to_rgb
from mprnet_lit.video.formats import FORMATS, Encoding, dropped_properties, encoding_for
from mprnet_lit.video.reading import (
    closing,
    create_decoder,
    decode,
    demux,
    frame_errors,
    open_video,
    read_errors,
    read_first_frame,
    require_av,
    video_stream,
    write_errors,
)
from mprnet_lit.video.streams import (
    add_copies,
    add_encoder,
    open_encoder,
    portable_metadata,
    write_header,
)
from mprnet_lit.video.truncation import LengthCheck

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = frozenset(FORMATS)

Frame = NDArray[np.uint8]


def restore_video(
    source: Path,
    destination: Path,
    restore: Callable[[Frame], Frame],
    progress: Callable[[int, int], None] = lambda done, total: None,
    notify: Callable[[str], None] = lambda line: None,
) -> int:
    """Restore every frame of a video.

    The suffix of ``destination`` selects the container and the encoder: H.264 (CRF 16) in MP4, MOV
    and Matroska, VP9 (CRF 18) in WebM, MPEG-4 (quantizer 2) in AVI. The encoder writes 8 bits and
    4:2:0, or 4:4:4 if the height or width is odd (except in AVI). An alpha channel is copied to
    WebM (VP9) and MOV (ProRes 4444).

    The output keeps the frame size, time stamps, color range, color tags, pixel aspect ratio,
    rotation, chapters, names and languages as far as its container supports them. RGB becomes YCbCr
    of limited range. Sound and subtitles are copied without re-encoding. Further video streams,
    cover images, attachments and data streams are dropped. Interlaced video is restored as if it
    were progressive. Memory use does not depend on the length, except for the time stamps.

    Args:
        source: path of the video. Its first video stream is restored.
        destination: path of the output, which is written atomically. Missing parent folders are
            created. It may equal ``source``.
        restore: function from a frame, RGB of shape (H, W, 3) and range 0 to 255 before rotation,
            to a restored frame of the same shape.
        progress: callback with the number of restored frames and the number of all frames, called
            after each frame.
        notify: callback with one line that lists the properties and streams that the output does
            not keep, called before the first frame is restored unless the list is empty.

    Returns:
        Number of restored frames.

    Raises:
        UserError: PyAV is not installed; the source is missing, damaged, truncated or not a video,
            has an unsupported color matrix, or changes its size or colors midway; the destination
            can't be written, or its container does not support the frame size, sound or subtitles
            of the source (checked before the first frame is restored).
    """
    require_av()
    container_format = FORMATS.get(destination.suffix.lower())
    if container_format is None:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise UserError(f"can't write {destination}: its format is unknown; use one of {known}")
    import av

    timestamps = read_timestamps(source)
    first = read_first_frame(source)
    options = {"movflags": "+faststart"} if container_format in ("mp4", "mov") else {}
    advice = "free disk space, or choose another folder or format"
    with atomic_writer(destination, "the video", advice) as file, open_video(source) as container:
        path = str(Path(file.name).absolute())
        with write_errors(destination):
            output = av.open(path, "w", format=container_format, options=options)
        with closing(output, destination):
            job = _Job(source, destination, container, output, first, timestamps)
            count = job.run(restore, lambda done: progress(done, len(timestamps)), notify)
    return count


def count_frames(path: Path) -> int:
    """Return the number of frames. The whole file is read, but not decoded.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged, truncated or not a video.
    """
    return len(read_timestamps(path))


def read_timestamps(path: Path) -> list[int]:
    """Return the sorted time stamps of all frames, in units of the stream's time base.

    Frames without a time stamp count as 0. The whole file is read, but not decoded.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged, truncated or not a video.
    """
    with open_video(path) as container:
        stream = video_stream(path, container)
        check, timestamps = LengthCheck(container, stream), []
        for packet in demux(path, container):
            with read_errors(path):
                check.add(packet)
            if packet.stream is stream and packet.size > 0 and not packet.is_discard:
                timestamps.append(packet.pts or 0)
        with read_errors(path):
            check.finish()
    return sorted(timestamps)


@dataclass(frozen=True)
class _Job:
    """Opened source and output of one video."""

    source: Path
    destination: Path
    container: "InputContainer"
    output: "OutputContainer"
    first: "VideoFrame"
    timestamps: list[int]

    @cached_property
    def encoding(self) -> Encoding:
        """Encoder settings of the output."""
        return encoding_for(self.output.format.name, has_alpha(self.first))

    @cached_property
    def color(self) -> Color:
        """Color tags of the output."""
        with frame_errors(self.source):
            return self.encoding.color_for(self.first)

    def run(
        self,
        restore: Callable[[Frame], Frame],
        progress: Callable[[int], None],
        notify: Callable[[str], None],
    ) -> int:
        """Restore and encode all frames, copy the other streams, and return the frame count."""
        stream = video_stream(self.source, self.container)
        decoder = create_decoder(stream)
        decoder.options = {"err_detect": "explode"}
        encoder, copies = self._begin(stream)
        dropped = dropped_properties(
            self.container, stream, self.first, self.timestamps, self.output.format.name
        )
        if dropped:
            notify(f"{self.source}: the output drops {', '.join(dropped)}")
        count, last, base = 0, -sys.maxsize, encoder.codec_context.time_base
        for packet in demux(self.source, self.container, stream, *copies):
            if packet.stream is not stream:
                if packet.size:
                    packet.stream = copies[packet.stream]
                    with write_errors(self.destination):
                        self.output.mux(packet)
                continue
            for frame in decode(self.source, decoder, packet):
                restored = self._restore(frame, restore)
                # The encoder requires increasing time stamps; some damaged files repeat one.
                ticks = (frame.time_base or base) / base
                pts = last + 1 if count else 0
                if frame.pts is not None:
                    pts = max(round(frame.pts * ticks), last + 1)
                restored.pts = last = pts
                restored.time_base = base
                restored.duration = round(frame.duration * ticks)
                with write_errors(self.destination):
                    self.output.mux(encoder.encode(restored))
                count += 1
                progress(count)
        with write_errors(self.destination):
            self.output.mux(encoder.encode(None))
        return count

    def _begin(self, stream: "VideoStream") -> "tuple[VideoStream, dict[Stream, Stream]]":
        """Add the output streams and write the header, which fails for unsupported streams."""
        with write_errors(self.destination):
            encoder = add_encoder(
                self.output, stream, self.first, self.timestamps, self.encoding, self.color
            )
            copies = add_copies(self.output, self.container, self.source, self.destination)
            self.output.metadata.update(portable_metadata(self.container.metadata))
            self.output.set_chapters(self.container.chapters())
            open_encoder(encoder, self.destination)
            write_header(self.output, copies, self.source, self.destination)
        return encoder, copies

    def _restore(self, frame: "VideoFrame", restore: Callable[[Frame], Frame]) -> "VideoFrame":
        """Restore a frame and copy its alpha channel if the output has one."""
        size, tags = (self.first.width, self.first.height), frame_color(self.first)
        with frame_errors(self.source):
            if frame.is_corrupt:
                raise UserError("a frame is damaged: replace or remove the file")
            if (frame.width, frame.height) != size:
                raise UserError("the frame size changes midway: split the file there")
            if not frame_color(frame).matches_gamut(tags):
                raise UserError("the color tags change midway: split the file there")
            pixels = to_rgb(frame, self.encoding.alpha)
        restored = restore(np.ascontiguousarray(pixels[..., :3]))
        pixels = np.dstack((restored, pixels[..., 3:]))
        return to_frame(pixels, self.encoding.pix_fmt_for(*size), self.color)
