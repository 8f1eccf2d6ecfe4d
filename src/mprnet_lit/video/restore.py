"""Restoration of a video frame by frame, with its sound, subtitles, time stamps and metadata."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.atomic import atomic_writer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import Color, frame_color, has_alpha, to_frame, to_rgb
from mprnet_lit.video.formats import FORMATS, Encoding, dropped_properties, encoding_for
from mprnet_lit.video.reading import (
    Source,
    closing,
    create_decoder,
    demux,
    open_source,
    read_errors,
    write_errors,
)
from mprnet_lit.video.streams import add_copies, add_encoder, write_header

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame

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
    of limited range. Sound and subtitles are copied without re-encoding. Additional video streams,
    cover images, attachments and data streams are dropped. Interlaced video is restored as if it
    were progressive. Memory use does not depend on the duration, except for the time stamps.

    Args:
        source: path of the video. Its first video stream is restored.
        destination: path of the output, which is written atomically. Missing parent folders are
            created. ``destination`` may equal ``source``.
        restore: function that maps a frame, uint8 RGB (H, W, 3) before rotation, to a restored
            frame of the same shape.
        progress: callback for the number of restored frames and the total number of frames, called
            after each frame.
        notify: callback for one line that lists the dropped properties and streams, called before
            the first frame is restored if any are dropped.

    Returns:
        Number of restored frames.

    Raises:
        UserError: PyAV is not installed; the source is missing, damaged, truncated or not a video,
            has an unsupported color matrix, or changes its size or colors midway; the destination
            can't be written, or its container does not support the frame size, sound or subtitles
            of the source (checked before the first frame is restored).
    """
    container_format = FORMATS.get(destination.suffix.lower())
    if container_format is None:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise UserError(f"can't write {destination}: its format is unknown; use one of {known}")
    options = {"movflags": "+faststart"} if container_format in ("mp4", "mov") else {}
    advice = "free disk space, or choose another folder or format"
    with open_source(source) as opened, atomic_writer(destination, "the video", advice) as file:
        import av

        path = str(Path(file.name).absolute())
        with write_errors(destination):
            output = av.open(path, "w", format=container_format, options=options)
        with closing(output, destination):
            return _Job(opened, destination, output).run(restore, progress, notify)


@dataclass(frozen=True)
class _Job:
    """Opened source and output of one video."""

    source: Source
    destination: Path
    output: "OutputContainer"

    @cached_property
    def encoding(self) -> Encoding:
        """Encoder settings of the output."""
        return encoding_for(self.output.format.name, has_alpha(self.source.first))

    @cached_property
    def color(self) -> Color:
        """Color tags of the output."""
        with self._frame_errors():
            return self.encoding.color_for(self.source.first)

    def run(
        self,
        restore: Callable[[Frame], Frame],
        progress: Callable[[int, int], None],
        notify: Callable[[str], None],
    ) -> int:
        """Restore and encode all frames, copy the other streams, and return the frame count."""
        source, output, errors = self.source, self.output, partial(write_errors, self.destination)
        decoder = create_decoder(source.stream)
        decoder.options = {"err_detect": "explode"}
        with errors():
            encoder = add_encoder(output, source, self.destination, self.encoding, self.color)
            copies = add_copies(output, source, self.destination)
            write_header(output, copies, source, self.destination)
        dropped = dropped_properties(source, output.format.name)
        if dropped:
            notify(f"{source.path}: the output drops {', '.join(dropped)}")
        count, last, base = 0, -1, encoder.codec_context.time_base
        for packet in demux(source.path, source.container, source.stream, *copies):
            if packet.stream is not source.stream:
                if packet.size:
                    packet.stream = copies[packet.stream]
                    with errors():
                        output.mux(packet)
                continue
            with read_errors(source.path):
                frames = decoder.decode(packet)
            for frame in frames:
                restored = self._restore(frame, restore)
                # The encoder needs increasing time stamps; some damaged files repeat a time stamp.
                ticks = (frame.time_base or base) / base
                pts = last + 1 if frame.pts is None else round(frame.pts * ticks)
                pts = max(pts, last + 1) if count else pts
                restored.pts = last = pts
                restored.time_base = base
                restored.duration = round(frame.duration * ticks)
                with errors():
                    output.mux(encoder.encode(restored))
                count += 1
                progress(count, len(source.timestamps))
        with errors():
            output.mux(encoder.encode(None))
        return count

    def _restore(self, frame: "VideoFrame", restore: Callable[[Frame], Frame]) -> "VideoFrame":
        """Restore a frame and copy its alpha channel if the output has one."""
        first = self.source.first
        size = (first.width, first.height)
        with self._frame_errors():
            if frame.is_corrupt:
                raise UserError("a frame is damaged: replace or remove the file")
            if (frame.width, frame.height) != size:
                raise UserError("the frame size changes midway: split the file at the change")
            if not frame_color(frame).matches_gamut(frame_color(first)):
                raise UserError("the color tags change midway: split the file at the change")
            pixels = to_rgb(frame, self.encoding.alpha)
        restored = restore(np.ascontiguousarray(pixels[..., :3]))
        pixels = np.dstack((restored, pixels[..., 3:]))
        return to_frame(pixels, self.encoding.pix_fmt_for(*size), self.color)

    @contextmanager
    def _frame_errors(self) -> Iterator[None]:
        """Add the path of the video to a UserError about its frames."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.source.path} can't be restored: {error}") from error
