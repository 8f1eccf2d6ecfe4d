"""Opening, reading and writing video files; whatever goes wrong becomes one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mprnet_lit.data.containers import is_cut_short
from mprnet_lit.errors import UserError, install_hint

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


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
    with _explained(path):
        if is_cut_short(path):
            raise ValueError("cut short")
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
    raise UserError(f"{path} holds no moving pictures: leave it out")


def first_frame(path: Path) -> "VideoFrame":
    """Return the first frame, which knows the rotation and colours."""
    with open_video(path) as container:
        frame: VideoFrame
        for frame in reading(path, container.decode(moving_pictures(path, container))):
            return frame
    raise UserError(f"{path} holds no frame that can be decoded: replace or remove it")


def reading(path: Path, items: Iterator[Any]) -> Iterator[Any]:
    """Yield the items; an error in getting one names the file."""
    while True:
        with _explained(path):
            item = next(items, None)
        if item is None:
            return
        yield item


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what can go wrong in reading into one sentence."""
    import av

    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} is no video that can be read, or is damaged ({said}): replace or remove it"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what can go wrong in writing into one sentence."""
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
    """Finish the file; once something went wrong, what else does so is not worth telling."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    with writing(path):
        output.close()
