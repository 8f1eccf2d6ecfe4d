"""Restoring a video frame by frame; its sound, subtitles, times and tags stay as they are."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.atomic import replacing
from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import Color, color_of, has_alpha, to_frame, to_rgb
from mprnet_lit.video.formats import FORMATS, Encoding, encoding_of, losses
from mprnet_lit.video.reading import (
    closing,
    decoder_of,
    decoding,
    explained,
    first_frame,
    moving_pictures,
    naming,
    open_video,
    reading,
    require_av,
    writing,
)
from mprnet_lit.video.streams import add_copies, add_encoder, kept, open_encoder, write_header
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
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Restore every frame and write a video of the format that the destination's suffix names.

    Frames are written as H.264 (CRF 16), in WebM as VP9 (CRF 18), in AVI as MPEG-4 (quantizer 2),
    with 8 bits and 4:2:0, or 4:4:4 if a side is odd (except in AVI). An alpha channel is copied
    into WebM (VP9) and MOV (ProRes 4444). Levels, range, color tags, size, time stamps, pixel
    aspect ratio, rotation, chapters, names and languages are kept where the container can hold
    them; RGB becomes YCbCr of limited range. Sound and subtitles are copied. Further video
    streams, cover images, attachments and data streams are not written. Interlaced video is
    restored as if it were progressive. Memory does not grow with the length, except for the time
    stamps.

    Args:
        source: a video; the first stream of pictures in it is restored.
        destination: file to write, atomically; its folder is made. May be the source.
        restore: turns a frame, (H, W, 3) RGB as stored (before rotation), into one of that shape.
        progress: is called after each frame with the numbers of frames done and in all.
        say: is called before the first frame is restored with one line that names everything in
            the source that is not written; it is not called if there is nothing to name.

    Returns:
        the number of frames.

    Raises:
        UserError: PyAV is not installed; the source is missing, damaged, cut short or not a video,
            or has an unsupported color matrix, or its size or colors change midway; the
            destination can't be written, or can't hold the source's size, sound or subtitles (this
            is checked before the first frame is restored).
    """
    require_av()
    form = FORMATS.get(destination.suffix.lower())
    if form is None:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise UserError(f"can't write {destination}: its format is unknown; use one of {known}")
    import av

    times = frame_times(source)
    first = first_frame(source)
    options = {"movflags": "+faststart"} if form in ("mp4", "mov") else {}
    advice = "make room there, or choose another folder or format"
    with replacing(destination, "the video", advice) as file, open_video(source) as container:
        with writing(destination):
            output = av.open(str(Path(file.name).absolute()), "w", format=form, options=options)
        with closing(output, destination):
            job = _Job(source, destination, container, output, first, times)
            count = job.run(restore, lambda done: progress(done, len(times)), say)
    return count


def count_frames(path: Path) -> int:
    """Return the number of frames, by reading the file through without decoding it.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged or not a video.
    """
    return len(frame_times(path))


def frame_times(path: Path) -> list[int]:
    """Return the frames' time stamps in order, 0 for those without, in the stream's time base.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged or not a video.
    """
    with open_video(path) as container:
        pictures = moving_pictures(path, container)
        check, times = LengthCheck(container, pictures), []
        for packet in reading(path, container.demux()):
            with explained(path):
                check.add(packet)
            if packet.stream is pictures and packet.size > 0 and not packet.is_discard:
                times.append(packet.pts or 0)
        with explained(path):
            check.finish()
    return sorted(times)


@dataclass(frozen=True)
class _Job:
    """One video being read and written."""

    source: Path
    destination: Path
    container: "InputContainer"
    output: "OutputContainer"
    first: "VideoFrame"
    times: list[int]

    @cached_property
    def encoding(self) -> Encoding:
        """How the frames are written."""
        return encoding_of(self.output.format.name, has_alpha(self.first))

    @cached_property
    def color(self) -> Color:
        """The color tags to write."""
        with naming(self.source):
            return self.encoding.color(self.first)

    def run(
        self,
        restore: Callable[[Frame], Frame],
        progress: Callable[[int], None],
        say: Callable[[str], None],
    ) -> int:
        """Restore, encode and copy; return the number of frames."""
        pictures = moving_pictures(self.source, self.container)
        decoder = decoder_of(pictures)
        decoder.options = {"err_detect": "explode"}
        encoder, copies = self._begin(pictures)
        form = self.output.format.name
        lost = losses(self.container, pictures, self.first, self.times, form)
        if lost:
            say(f"Not kept from {self.source} in {self.destination.name}: {', '.join(lost)}")
        count, last, base = 0, -sys.maxsize, encoder.codec_context.time_base
        for packet in reading(self.source, self.container.demux(pictures, *copies)):
            if packet.stream is not pictures:
                if packet.size:
                    packet.stream = copies[packet.stream]
                    with writing(self.destination):
                        self.output.mux(packet)
                continue
            for frame in decoding(self.source, decoder, packet):
                new = self._restored(frame, restore)
                # The encoder wants them to grow; some damaged files repeat one.
                ticks = (frame.time_base or base) / base
                pts = last + 1 if count else 0
                if frame.pts is not None:
                    pts = max(round(frame.pts * ticks), last + 1)
                new.pts = last = pts
                new.time_base = base
                new.duration = round(frame.duration * ticks)
                with writing(self.destination):
                    self.output.mux(encoder.encode(new))
                count += 1
                progress(count)
        with writing(self.destination):
            self.output.mux(encoder.encode(None))
        return count

    def _begin(self, pictures: "VideoStream") -> "tuple[VideoStream, dict[Stream, Stream]]":
        """Add the streams and write the header, which finds what can't be written."""
        with writing(self.destination):
            encoder = add_encoder(
                self.output, pictures, self.first, self.times, self.encoding, self.color
            )
            copies = add_copies(self.output, self.container, self.source, self.destination)
            self.output.metadata.update(kept(self.container.metadata))
            self.output.set_chapters(self.container.chapters())
            open_encoder(encoder, self.destination)
            write_header(self.output, copies, self.source, self.destination)
        return encoder, copies

    def _restored(self, frame: "VideoFrame", restore: Callable[[Frame], Frame]) -> "VideoFrame":
        """Restore one frame; its alpha channel is copied if the output holds one."""
        size, tags = (self.first.width, self.first.height), color_of(self.first)
        with naming(self.source):
            if frame.is_corrupt:
                raise UserError("a frame is damaged: replace or remove it")
            if (frame.width, frame.height) != size:
                raise UserError("its size changes midway: split it there")
            if not color_of(frame).has_gamut_of(tags):
                raise UserError("its color primaries or transfer change midway: split it there")
            pixels = to_rgb(frame, self.encoding.alpha)
        restored = restore(np.ascontiguousarray(pixels[..., :3]))
        pixels = np.dstack((restored, pixels[..., 3:]))
        return to_frame(pixels, self.encoding.pixels(*size), self.color)
