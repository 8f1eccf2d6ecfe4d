"""Opening, reading and writing video files; every error becomes one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mprnet_lit.utils.errors import UserError, install_hint

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}


def require_av() -> None:
    """Raise UserError if PyAV, which is optional, is not installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"reading video needs PyAV, which is not installed: {install_hint('video')}"
        ) from error


@contextmanager
def open_video(path: Path) -> "Iterator[InputContainer]":
    """Open a video; a playlist in disguise gets no network."""
    require_av()
    import av

    if not path.is_file():
        raise UserError(f"there is no video {path}: check the path")
    with explained(path):
        container = av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    with container:
        yield container


def moving_pictures(path: Path, container: "InputContainer") -> "VideoStream":
    """Return the first stream of moving pictures."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise UserError(f"{path} has no video stream, or is damaged: replace or remove it")


def decoder_of(pictures: "VideoStream") -> "VideoCodecContext":
    """Return the stream's decoder: libvpx for VP8 and VP9 with alpha, which FFmpeg's own drops."""
    import av
    from av.codec.codec import UnknownCodecError
    from av.codec.context import ThreadType

    decoder = pictures.codec_context
    if pictures.metadata.get("alpha_mode") == "1" and decoder.name in _ALPHA_DECODERS:
        with suppress(UnknownCodecError):
            keeping = av.CodecContext.create(_ALPHA_DECODERS[decoder.name], "r")
            decoder = cast("VideoCodecContext", keeping)
            decoder.extradata = pictures.codec_context.extradata
            decoder.color_primaries = pictures.codec_context.color_primaries
            decoder.color_trc = pictures.codec_context.color_trc
    decoder.thread_type = ThreadType.AUTO
    return decoder


def first_frame(path: Path) -> "VideoFrame":
    """Return the first frame, which knows the rotation and colors."""
    with open_video(path) as container:
        pictures = moving_pictures(path, container)
        decoder = decoder_of(pictures)
        for packet in reading(path, container.demux(pictures)):
            for frame in decoding(path, decoder, packet):
                return frame
    raise UserError(f"{path} holds no frame that can be decoded: replace or remove it")


def reading(path: Path, items: Iterator[Any]) -> Iterator[Any]:
    """Yield the items; an error in getting one names the file."""
    while True:
        with explained(path):
            item = next(items, None)
        if item is None:
            return
        yield item


def decoding(path: Path, decoder: "VideoCodecContext", packet: "Packet[Any]") -> "list[VideoFrame]":
    """Decode a packet; an error names the file."""
    with explained(path):
        return decoder.decode(packet)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} can't be restored: {error}") from error


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error in reading into one sentence."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} is not a readable video, or is damaged ({said}): replace or remove it"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error in writing into one sentence."""
    import av

    try:
        yield
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(
            f"can't write the video {path} ({said}): make room there, or choose another folder "
            "or format"
        ) from error


@contextmanager
def closing(output: "OutputContainer", path: Path) -> Iterator[None]:
    """Finish the file; after an error in the block, errors of closing are dropped."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    with writing(path):
        output.close()
