"""Restoring a video frame by frame; its sound, subtitles, times and tags stay as they are."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.video_files import (
    closing,
    first_frame,
    moving_pictures,
    open_video,
    reading,
    require_av,
    writing,
)
from mprnet_lit.errors import UserError
from mprnet_lit.files import replacing

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi", ".webm": "webm"}
VIDEO_SUFFIXES = frozenset(_FORMATS)

Frame = NDArray[np.uint8]

_H264 = {"crf": "16", "preset": "medium"}
_VP9 = {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
# In AVI, which has no time stamps: read from there, H.264 comes a frame late. 118 is 1 quantiser.
_MPEG4 = {"flags": "+qscale", "global_quality": str(2 * 118)}
_CODECS = {"avi": ("mpeg4", _MPEG4), "webm": ("libvpx-vp9", _VP9)}
# Of FFmpeg's numbers for a matrix those that its scaler knows, by the scaler's.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_BT709, _BT601 = 1, 5
_LIMITED, _FULL = 1, 2
_HD = 720
# What the container says of itself, which would be wrong of another.
_ITS_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder"}


def restore_video(
    source: Path,
    destination: Path,
    restore: Callable[[Frame], Frame],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Restore every frame and write a video of the format that the destination's suffix names.

    Memory doesn't grow with the length. The picture becomes H.264 (CRF 16), in WebM VP9 (CRF 18),
    in AVI MPEG-4 (quantiser 2), of 8 bits and 4:2:0, or 4:4:4 if a side is odd (but in AVI). Size,
    time stamps, pixel shape, rotation, colour tags, chapters, names and languages are kept; sound
    and subtitles are copied as they are. Left out are further pictures, cover art, attachments and
    data streams. Interlaced video is restored as if it were progressive. AVI has no time stamps
    but a constant rate.

    Args:
        source: a video; the first stream of pictures in it is restored.
        destination: where to write, whole or not at all; its folder is made. May be the source.
        restore: turns a frame, (H, W, 3) RGB as stored (before rotation), into one of that shape.
        progress: is told after each frame how many are done, and of how many.

    Returns:
        the number of frames.

    Raises:
        UserError: PyAV is not installed; the source is missing, damaged, cut short or no video;
            the destination can't be written or can't hold the source's sound or subtitles.
    """
    require_av()
    form = _FORMATS.get(destination.suffix.lower())
    if form is None:
        known = " ".join(sorted(VIDEO_SUFFIXES))
        raise UserError(f"can't write {destination}: its format is unknown; use one of {known}")
    import av

    first = first_frame(source)
    total = count_frames(source)
    options = {"movflags": "+faststart"} if form in ("mp4", "mov") else {}
    advice = "make room there, or choose another folder or format"
    with replacing(destination, "the video", advice) as file, open_video(source) as container:
        with writing(destination):
            output = av.open(str(Path(file.name).absolute()), "w", format=form, options=options)
        with closing(output, destination):
            count = _Job(source, destination, container, output, first).run(
                restore, lambda done: progress(done, total)
            )
    return count


def count_frames(path: Path) -> int:
    """Return the number of frames, by reading the file through without decoding it.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged or no video.
    """
    with open_video(path) as container:
        packets = reading(path, container.demux(moving_pictures(path, container)))
        return sum(packet.size > 0 and not packet.is_discard for packet in packets)


@dataclass(frozen=True)
class _Job:
    """One video being read and written."""

    source: Path
    destination: Path
    container: "InputContainer"
    output: "OutputContainer"
    first: "VideoFrame"

    def run(self, restore: Callable[[Frame], Frame], progress: Callable[[int], None]) -> int:
        """Restore, encode and copy; return the number of frames."""
        pictures = moving_pictures(self.source, self.container)
        pictures.thread_type = "AUTO"
        pictures.codec_context.options = {"err_detect": "explode"}
        with writing(self.destination):
            encoder = self._encoder(pictures)
            copies = self._copies()
            self.output.metadata.update(_kept(self.container.metadata))
            self.output.set_chapters(self.container.chapters())
        count, last = 0, -sys.maxsize
        for packet in reading(self.source, self.container.demux(pictures, *copies)):
            if packet.stream is not pictures:
                if packet.size:
                    packet.stream = copies[packet.stream]
                    with writing(self.destination):
                        self.output.mux(packet)
                continue
            for frame in reading(self.source, iter(packet.decode())):
                new = self._restored(frame, restore, encoder.pix_fmt or "")
                # The encoder wants them to grow; some damaged files repeat one.
                pts = frame.pts if frame.pts is not None else last + 1 if count else 0
                new.pts = last = max(pts, last + 1)
                new.time_base = frame.time_base
                new.duration = frame.duration
                with writing(self.destination):
                    self.output.mux(encoder.encode(new))
                count += 1
                progress(count)
        with writing(self.destination):
            self.output.mux(encoder.encode(None))
        return count

    def _encoder(self, pictures: "VideoStream") -> "VideoStream":
        """Add a stream like the source's."""
        from av.codec.context import Flags

        form, first = self.output.format.name, self.first
        codec, options = _CODECS.get(form, ("libx264", _H264))
        rate = pictures.average_rate or pictures.guessed_rate or Fraction(25)
        added = self.output.add_stream(codec, rate, options=dict(options))
        stream = cast("VideoStream", added)
        stream.width, stream.height = first.width, first.height
        odd = (first.width % 2 or first.height % 2) and codec != "mpeg4"
        stream.pix_fmt = "yuv444p" if odd else "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate if form == "avi" else pictures.time_base or 1 / rate
        if pictures.sample_aspect_ratio:
            context.sample_aspect_ratio = pictures.sample_aspect_ratio
        context.color_range = _FULL if _range(first) == _FULL else first.color_range
        context.flags |= Flags.frame_duration
        context.colorspace = first.colorspace
        context.color_primaries = first.color_primaries
        context.color_trc = first.color_trc
        matrix = first.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            numbers = np.frombuffer(bytes(cast(Any, matrix)), np.int32)
            stream.set_display_matrix(numbers.tolist())
        _describe(stream, pictures)
        return stream

    def _copies(self) -> dict["Stream", "Stream"]:
        """Add the streams that are copied, by the source's."""
        copies: dict[Stream, Stream] = {}
        for stream in (*self.container.streams.audio, *self.container.streams.subtitles):
            if stream.codec_context is None:
                raise UserError(
                    f"{self.source} has {stream.type} of an unknown kind, or is damaged: "
                    "mend or remove it"
                )
            try:
                copy = self.output.add_stream_from_template(stream)
            except ValueError as error:
                raise UserError(
                    f"can't write {self.destination}: {self.destination.suffix} can't hold the "
                    f"{stream.type} of {self.source} ({stream.codec_context.name}); choose .mkv"
                ) from error
            _describe(copy, stream)
            copies[stream] = copy
        return copies

    def _restored(
        self, frame: "VideoFrame", restore: Callable[[Frame], Frame], pix_fmt: str
    ) -> "VideoFrame":
        """Restore one frame; YCbCr becomes RGB and back by the same matrix and range."""
        import av

        size = (self.first.width, self.first.height)
        if frame.is_corrupt or (frame.width, frame.height) != size:
            what = "a frame is damaged" if frame.is_corrupt else "its size changes midway"
            raise UserError(f"{self.source} can't be restored ({what}): mend or remove it")
        coded = {
            "colorspace": _MATRICES.get(frame.colorspace)
            or (_BT709 if frame.height >= _HD else _BT601),
            "color_range": _range(frame),
        }
        plain = {"colorspace": coded["colorspace"], "color_range": _FULL}
        rgb = frame.reformat(format="rgb24", **_between(coded, plain)).to_ndarray()
        restored = restore(np.asarray(rgb, np.uint8))
        new = av.VideoFrame.from_ndarray(np.ascontiguousarray(restored), format="rgb24")
        new = new.reformat(format=pix_fmt, **_between(plain, coded))
        new.colorspace = frame.colorspace
        return new


def _between(source: dict[str, int], target: dict[str, int]) -> dict[str, Any]:
    """Return the arguments of a conversion."""
    return {f"src_{k}": v for k, v in source.items()} | {f"dst_{k}": v for k, v in target.items()}


def _range(frame: "VideoFrame") -> int:
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    return _FULL if full else _LIMITED


def _describe(stream: "Stream", original: "Stream") -> None:
    """Copy names, language and such."""
    stream.metadata.update(_kept(original.metadata))
    stream.disposition = original.disposition


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in metadata.items() if name.lower() not in _ITS_OWN}
