"""Opening, checking, demuxing and decoding of video files.

Errors of FFmpeg and of the file system become a UserError that names the file.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mprnet_lit.utils.errors import UserError, install_hint

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}
_UNKNOWN_AVI_FRAMES = 1 << 30
"""Number of frames that FFmpeg writes into the AVI header of a live recording."""
_TOLERANCE = Fraction(1, 10)
"""Seconds that a complete video may lack at its end, because declared durations are rounded."""


@dataclass(frozen=True)
class Source:
    """Opened video.

    Attributes:
        path: path of the video.
        container: opened container.
        stream: video stream to restore.
        first: first frame, which has the size, rotation and color tags of the video.
        timestamps: sorted time stamps of all frames, in units of the stream's time base.
    """

    path: Path
    container: "InputContainer"
    stream: "VideoStream"
    first: "VideoFrame"
    timestamps: list[int]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a video, and check that it is complete.

    The whole file is read, but only the first frame is decoded.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged, truncated or not a video.
    """
    timestamps, first = read_timestamps(path), _read_first_frame(path)
    with open_video(path) as container:
        yield Source(path, container, video_stream(path, container), first, timestamps)


@contextmanager
def open_video(path: Path) -> "Iterator[InputContainer]":
    """Open a video. Only local files are read, even if the file is a playlist of URLs.

    Raises:
        UserError: PyAV is not installed; the file does not exist or is not a readable video.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"reading video needs PyAV, which is not installed: {install_hint('video')}"
        ) from error
    if not path.is_file():
        raise UserError(f"the video {path} does not exist: check the path")
    with read_errors(path):
        container = av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    with container:
        yield container


def video_stream(path: Path, container: "InputContainer") -> "VideoStream":
    """Return the first video stream that is not a cover image.

    Raises:
        UserError: the file has no video stream.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise UserError(f"{path} has no video stream, or is damaged: replace or remove it")


def create_decoder(stream: "VideoStream") -> "VideoCodecContext":
    """Return the decoder of a stream.

    VP8 and VP9 with an alpha channel need libvpx, because FFmpeg's own decoders drop alpha.
    """
    import av
    from av.codec.codec import UnknownCodecError
    from av.codec.context import ThreadType

    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in _ALPHA_DECODERS:
        with suppress(UnknownCodecError):
            libvpx = av.CodecContext.create(_ALPHA_DECODERS[decoder.name], "r")
            decoder = cast("VideoCodecContext", libvpx)
            decoder.extradata = stream.codec_context.extradata
            decoder.color_primaries = stream.codec_context.color_primaries
            decoder.color_trc = stream.codec_context.color_trc
    decoder.thread_type = ThreadType.SLICE  # with frame threads, errors in the last frames are lost
    return decoder


def read_timestamps(path: Path) -> list[int]:
    """Return the sorted time stamps of all frames, in units of the stream's time base.

    A missing time stamp is replaced by 0. The whole file is read, but not decoded.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged, truncated or not a video.
    """
    timestamps: list[int] = []
    ends: dict[Stream, Fraction] = defaultdict(Fraction)
    with open_video(path) as container, read_errors(path):
        stream = video_stream(path, container)
        for packet in container.demux():
            if packet.is_corrupt:
                raise ValueError("truncated: the last packet is incomplete")
            if packet.pts is not None and packet.time_base:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                ends[packet.stream] = max(ends[packet.stream], end)
            if packet.stream is stream and packet.size > 0 and not packet.is_discard:
                timestamps.append(packet.pts or 0)
        _check_lengths(container, stream, ends)
    return sorted(timestamps)


def _check_lengths(
    container: "InputContainer", video: "VideoStream", ends: "dict[Stream, Fraction]"
) -> None:
    """Raise ValueError if a stream ends more than 0.1 s and two frames before its declared length.

    MP4 and MOV declare the duration of each stream, Matroska and WebM that of the file, and AVI the
    number of frames. A live recording and a fragmented MP4 may declare none of these.
    """
    name = container.format.name
    lengths: list[tuple[Fraction, Fraction]] = []
    if name == "avi":
        frames = video.frames if video.frames < _UNKNOWN_AVI_FRAMES else 0
        lengths = [(ends[video], frames * (video.time_base or Fraction(0)))]
    elif "matroska" in name:
        declared = Fraction(container.duration or 0, 1_000_000)
        lengths = [(max(ends.values(), default=Fraction(0)), declared)]
    elif "mp4" in name:
        lengths = [
            (ends[stream], stream.duration * stream.time_base)
            for stream in (video, *container.streams.audio)
            if stream.frames and stream.duration and stream.time_base
        ]
    tolerance = max(_TOLERANCE, 2 / (video.average_rate or Fraction(25)))
    for end, declared in lengths:
        if end + tolerance < declared:
            raise ValueError(
                f"truncated: it ends after {float(end):.1f} s of {float(declared):.1f} s"
            )


def _read_first_frame(path: Path) -> "VideoFrame":
    with open_video(path) as container, read_errors(path):
        stream = video_stream(path, container)
        decoder = create_decoder(stream)
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                return frame
    raise UserError(f"{path} has no frame that can be decoded: replace or remove it")


def demux(path: Path, container: "InputContainer", *streams: "Stream") -> "Iterator[Packet[Any]]":
    """Yield the packets of the given streams; convert read errors to a UserError."""
    packets = container.demux(*streams)
    while True:
        with read_errors(path):
            packet = next(packets, None)
        if packet is None:
            return
        yield packet


def read_errors(path: Path) -> AbstractContextManager[None]:
    """Convert an error in reading a video to a UserError."""
    return _av_errors(f"{path} is not a readable video, or is damaged", "replace or remove it")


@contextmanager
def frame_errors(path: Path) -> Iterator[None]:
    """Add the path of a video to a UserError about its frames."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} can't be restored: {error}") from error


def write_errors(path: Path) -> AbstractContextManager[None]:
    """Convert an error in writing a video to a UserError."""
    return _av_errors(
        f"can't write the video {path}", "free disk space, or choose another folder or format"
    )


@contextmanager
def _av_errors(problem: str, remedy: str) -> Iterator[None]:
    import av

    try:
        yield
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{problem} ({reason}): {remedy}") from error


@contextmanager
def closing_output(output: "OutputContainer", path: Path) -> Iterator[None]:
    """Close the output at the end of the block. An error in the block takes precedence."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    with write_errors(path):
        output.close()
