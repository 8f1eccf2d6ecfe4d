"""Streams of the output video: the encoded video stream, and copies of sound and subtitles."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import Color, set_color
from mprnet_lit.video.formats import Encoding, frame_rate
from mprnet_lit.video.reading import Source

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# Metadata of the source container, which does not apply to another container.
_CONTAINER_METADATA = {"major_brand", "minor_version", "compatible_brands", "encoder", "alpha_mode"}


def add_encoder(
    output: "OutputContainer", source: Source, destination: Path, encoding: Encoding, color: Color
) -> "VideoStream":
    """Add the video stream, with the properties of the source, and open its encoder.

    Raises:
        UserError: the encoder does not support the frame size or frame rate.
    """
    import av
    from av.codec.context import Flags

    original, first = source.stream, source.first
    rate = frame_rate(source, output.format.name)
    added = output.add_stream(encoding.codec, rate, options=dict(encoding.options))
    stream = cast("VideoStream", added)
    stream.width, stream.height = first.width, first.height
    stream.pix_fmt = encoding.pix_fmt_for(first.width, first.height)
    context = stream.codec_context
    context.time_base = 1 / rate
    if output.format.name != "avi" and original.time_base:
        context.time_base = original.time_base
    if original.sample_aspect_ratio:
        context.sample_aspect_ratio = original.sample_aspect_ratio
    context.flags |= Flags.frame_duration
    set_color(context, color)
    matrix = first.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        values = np.frombuffer(bytes(cast(Any, matrix)), np.int32)
        stream.set_display_matrix(values.tolist())
    _copy_metadata(stream, original)
    try:
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"can't write {destination.name}: the encoder of {destination.suffix}, {context.name}, "
            f"does not support {context.width} x {context.height} pixels at "
            f"{float(context.framerate):.6g} frames per second; choose another format"
        ) from error
    return stream


def add_copies(
    output: "OutputContainer", source: Source, destination: Path
) -> "dict[Stream, Stream]":
    """Add a copy of each audio and subtitle stream; return the copies by source stream.

    Raises:
        UserError: the codec of a stream is unknown, or not supported by the output container.
    """
    copies: dict[Stream, Stream] = {}
    for stream in (*source.container.streams.audio, *source.container.streams.subtitles):
        if stream.codec_context is None:
            raise UserError(
                f"{source.path} has a stream ({stream.type}) with an unknown codec, or is damaged: "
                "repair or remove the file"
            )
        try:
            copy = output.add_stream_from_template(stream)
        except ValueError as error:
            raise _unsupported_streams([stream], source, destination) from error
        _copy_metadata(copy, stream)
        copies[stream] = copy
    return copies


def write_header(
    output: "OutputContainer", copies: "dict[Stream, Stream]", source: Source, destination: Path
) -> None:
    """Write the header of the output container.

    Raises:
        UserError: the container does not support one of the copied streams.
    """
    import av

    output.metadata.update(_portable_metadata(source.container.metadata))
    output.set_chapters(source.container.chapters())
    try:
        output.start_encoding()
    except (av.error.ArgumentError, av.error.PatchWelcomeError) as error:
        if not copies:
            raise
        raise _unsupported_streams(copies, source, destination) from error


def _unsupported_streams(
    streams: "Iterable[Stream]", source: Source, destination: Path
) -> UserError:
    kinds = " and ".join(f"{s.type} ({s.codec_context.name})" for s in streams)
    same = source.path.suffix.lower() == destination.suffix.lower()
    advice = "remove this stream first" if same else f"choose {source.path.suffix}"
    return UserError(
        f"can't write {destination.name}: {destination.suffix} does not support the {kinds} of "
        f"{source.path}; {advice}"
    )


def _copy_metadata(stream: "Stream", original: "Stream") -> None:
    """Copy the title, language and disposition of a stream."""
    stream.metadata.update(_portable_metadata(original.metadata))
    stream.disposition = original.disposition


def _portable_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return the entries that are also valid in another container."""
    return {key: text for key, text in metadata.items() if key.lower() not in _CONTAINER_METADATA}
