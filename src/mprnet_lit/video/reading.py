"""Opening, demuxing, decoding and closing of video files.

Errors of FFmpeg and of the file system become a UserError that names the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def require_av() -> None:
    """Check that PyAV, an optional dependency, is installed.

    Raises:
        UserError: PyAV is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"reading video needs PyAV, which is not installed: {install_hint('video')}"
        ) from error


@contextmanager
def open_video(path: Path) -> "Iterator[InputContainer]":
    """Open a video. Only local files are read, even if the file is a playlist of URLs.

    Raises:
        UserError: PyAV is not installed; the file does not exist or is not a readable video.
    """
    require_av()
    import av

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

    VP8 and VP9 with an alpha channel need libvpx, as FFmpeg's own decoders drop the alpha channel.
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
    decoder.thread_type = ThreadType.AUTO
    return decoder


def read_first_frame(path: Path) -> "VideoFrame":
    """Return the first frame, which has the size, rotation and color tags of the video.

    Raises:
        UserError: PyAV is not installed; the file is missing, damaged or not a video.
    """
    with open_video(path) as container:
        stream = video_stream(path, container)
        decoder = create_decoder(stream)
        for packet in demux(path, container, stream):
            for frame in decode(path, decoder, packet):
                return frame
    raise UserError(f"{path} has no frame that can be decoded: replace or remove it")


def demux(path: Path, container: "InputContainer", *streams: "Stream") -> "Iterator[Packet[Any]]":
    """Yield the packets of some streams, or of all streams.

    Raises:
        UserError: the file can't be read.
    """
    packets = container.demux(*streams)
    while True:
        with read_errors(path):
            packet = next(packets, None)
        if packet is None:
            return
        yield packet


def decode(path: Path, decoder: "VideoCodecContext", packet: "Packet[Any]") -> "list[VideoFrame]":
    """Return the frames that the decoder outputs for a packet.

    Raises:
        UserError: the packet can't be decoded.
    """
    with read_errors(path):
        return decoder.decode(packet)


@contextmanager
def frame_errors(path: Path) -> Iterator[None]:
    """Add the path of the video to a UserError about its frames."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} can't be restored: {error}") from error


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Convert an error of reading a video to a UserError."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} is not a readable video, or is damaged ({reason}): replace or remove it"
        ) from error


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Convert an error of writing a video to a UserError."""
    import av

    try:
        yield
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"can't write the video {path} ({reason}): free disk space, or choose another folder "
            "or format"
        ) from error


@contextmanager
def closing(output: "OutputContainer", path: Path) -> Iterator[None]:
    """Close the output at the end of the block.

    After an error in the block, an error of closing the output is ignored.

    Raises:
        UserError: the end of the file can't be written.
    """
    try:
        yield
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    with write_errors(path):
        output.close()
