"""The streams of a video to be written: one encoded, sound and subtitles copied."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import Color, set_color
from mprnet_lit.video.formats import Encoding, frame_rate

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Metadata of a container itself, which would be wrong in another one.
_ITS_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "alpha_mode"}


def add_encoder(
    output: "OutputContainer",
    pictures: "VideoStream",
    first: "VideoFrame",
    times: Sequence[int],
    encoding: Encoding,
    color: Color,
) -> "VideoStream":
    """Add a stream of the source's size, rate, pixel aspect ratio, rotation and names."""
    from av.codec.context import Flags

    form = output.format.name
    rate = frame_rate(pictures, times, form)
    added = output.add_stream(encoding.codec, rate, options=dict(encoding.options))
    stream = cast("VideoStream", added)
    stream.width, stream.height = first.width, first.height
    stream.pix_fmt = encoding.pixels(first.width, first.height)
    context = stream.codec_context
    context.time_base = 1 / rate if form == "avi" else pictures.time_base or 1 / rate
    if pictures.sample_aspect_ratio:
        context.sample_aspect_ratio = pictures.sample_aspect_ratio
    context.flags |= Flags.frame_duration
    set_color(context, color)
    matrix = first.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        numbers = np.frombuffer(bytes(cast(Any, matrix)), np.int32)
        stream.set_display_matrix(numbers.tolist())
    _describe(stream, pictures)
    return stream


def open_encoder(stream: "VideoStream", destination: Path) -> None:
    """Open the encoder.

    Raises:
        UserError: it does not encode frames of this size or rate.
    """
    import av

    context = stream.codec_context
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"can't write {destination.name}: {destination.suffix} is written by the encoder "
            f"{context.name}, which refuses {context.width} x {context.height} pixels at "
            f"{float(context.framerate):.6g} frames a second; choose another format"
        ) from error


def add_copies(
    output: "OutputContainer", container: "InputContainer", source: Path, destination: Path
) -> "dict[Stream, Stream]":
    """Add the streams of sound and subtitles, by the source's.

    Raises:
        UserError: one is of an unknown kind or can't be held by the output's container.
    """
    copies: dict[Stream, Stream] = {}
    for stream in (*container.streams.audio, *container.streams.subtitles):
        if stream.codec_context is None:
            raise UserError(
                f"{source} has {stream.type} of an unknown kind, or is damaged: repair or remove it"
            )
        try:
            copy = output.add_stream_from_template(stream)
        except ValueError as error:
            raise _not_held([stream], source, destination) from error
        _describe(copy, stream)
        copies[stream] = copy
    return copies


def write_header(
    output: "OutputContainer", copies: "dict[Stream, Stream]", source: Path, destination: Path
) -> None:
    """Write the container's header.

    Raises:
        UserError: the container can't hold one of the copied streams.
    """
    import av

    try:
        output.start_encoding()
    except (av.error.ArgumentError, av.error.PatchWelcomeError) as error:
        if not copies:
            raise
        raise _not_held(list(copies), source, destination) from error


def _not_held(streams: "Sequence[Stream]", source: Path, destination: Path) -> UserError:
    kinds = " and ".join(f"{s.type} ({s.codec_context.name})" for s in streams)
    same = source.suffix.lower() == destination.suffix.lower()
    advice = "remove it first" if same else f"choose {source.suffix}"
    return UserError(
        f"can't write {destination.name}: {destination.suffix} can't hold the {kinds} of {source}; "
        f"{advice}"
    )


def _describe(stream: "Stream", original: "Stream") -> None:
    """Copy names, language and such."""
    stream.metadata.update(kept(original.metadata))
    stream.disposition = original.disposition


def kept(metadata: dict[str, str]) -> dict[str, str]:
    """Return the entries that are true of a copy in another container."""
    return {name: text for name, text in metadata.items() if name.lower() not in _ITS_OWN}
