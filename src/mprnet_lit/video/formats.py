"""Encoder settings of each video container, and the properties that a container drops."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from mprnet_lit.video.color import (
    LIMITED,
    UNSPECIFIED,
    Color,
    default_matrix,
    frame_color,
    has_alpha,
    is_gray,
    is_ycbcr,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi", ".webm": "webm"}

_SIDE_DATA = {
    "MASTERING_DISPLAY_METADATA": "HDR metadata",
    "CONTENT_LIGHT_LEVEL": "HDR metadata",
    "DYNAMIC_HDR_PLUS": "HDR metadata",
    "DOVI_METADATA": "HDR metadata",
    "DOVI_RPU_BUFFER": "HDR metadata",
    "SPHERICAL": "360-degree projection",
    "STEREO3D": "stereo layout",
    "A53_CC": "closed captions",
    "ICC_PROFILE": "color profile",
}


@dataclass(frozen=True)
class Encoding:
    """Encoder settings.

    Attributes:
        codec: FFmpeg's name of the encoder.
        options: options of the encoder.
        pix_fmt: pixel format for frames with even height and width.
        odd_pix_fmt: pixel format for frames with an odd height or width.
        alpha: whether the pixel formats have an alpha channel.
        matrices: color matrices (numbers of ITU-T H.273) that the encoder can signal.
        full_range: whether the encoder can signal full range.
        tags: whether the encoder can signal color tags at all.
    """

    codec: str
    options: dict[str, str] = field(repr=False)
    pix_fmt: str = "yuv420p"
    odd_pix_fmt: str = "yuv444p"
    alpha: bool = False
    matrices: frozenset[int] = frozenset({1, 5, 6, 7, 9})
    full_range: bool = True
    tags: bool = True

    def pix_fmt_for(self, width: int, height: int) -> str:
        """Return the pixel format for a frame size."""
        return self.odd_pix_fmt if width % 2 or height % 2 else self.pix_fmt

    def color_for(self, first: "VideoFrame") -> Color:
        """Return the color tags to write, given the first frame of the source.

        RGB and gray are written as YCbCr of limited range. A matrix or range that the encoder
        cannot signal is replaced by the default of players for untagged video.
        """
        color = frame_color(first)
        matrix = default_matrix(first.width, first.height)
        if not self.tags:
            return Color()
        if not is_ycbcr(first.format):
            return replace(color, matrix=matrix, range=LIMITED)
        if color.matrix != UNSPECIFIED and color.matrix not in self.matrices:
            color = replace(color, matrix=matrix)
        return replace(color, range=LIMITED) if not self.full_range else color


_VP9_OPTIONS = {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_H264 = Encoding(
    "libx264", {"crf": "16", "preset": "medium"}, matrices=frozenset({1, 4, 5, 6, 7, 9})
)
_VP9 = Encoding("libvpx-vp9", _VP9_OPTIONS)
_VP9_ALPHA = replace(
    _VP9,
    options=_VP9_OPTIONS | {"auto-alt-ref": "0"},
    pix_fmt="yuva420p",
    odd_pix_fmt="yuva420p",
    alpha=True,
)
_PRORES_ALPHA = Encoding(
    "prores_ks",
    {"profile": "4444"},
    pix_fmt="yuva444p10le",
    odd_pix_fmt="yuva444p10le",
    alpha=True,
    matrices=frozenset({1, 6, 9}),
    full_range=False,
)
# AVI has no time stamps, so its decoders return H.264 one frame late. FFmpeg's quality scale has
# 118 units per quantizer step.
_MPEG4 = Encoding(
    "mpeg4",
    {"flags": "+qscale", "global_quality": str(2 * 118)},
    odd_pix_fmt="yuv420p",
    full_range=False,
    tags=False,
)
_ENCODINGS = {
    ("avi", False): _MPEG4,
    ("webm", False): _VP9,
    ("webm", True): _VP9_ALPHA,
    ("mov", True): _PRORES_ALPHA,
}


def encoding_for(container_format: str, alpha: bool) -> Encoding:
    """Return the encoder settings for a container.

    Args:
        container_format: FFmpeg's name of the container.
        alpha: whether to prefer an encoder with an alpha channel.
    """
    return _ENCODINGS.get((container_format, alpha)) or _ENCODINGS.get(
        (container_format, False), _H264
    )


def frame_rate(stream: "VideoStream", timestamps: Sequence[int], container_format: str) -> Fraction:
    """Return the frame rate to write, in frames per second.

    AVI has a constant frame rate instead of time stamps. For a source with a variable rate, this is
    the most frequent rate, or the mean rate if that is higher, so that no frame is shown late.

    Args:
        stream: video stream of the source.
        timestamps: sorted time stamps of all frames, in units of the stream's time base.
        container_format: FFmpeg's name of the output container.
    """
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    if container_format != "avi":
        return rate
    if not is_constant_rate(timestamps) and stream.time_base:
        steps = Counter(after - before for before, after in pairwise(timestamps))
        mode = Fraction(steps.most_common(1)[0][0])
        mean = Fraction(timestamps[-1] - timestamps[0], len(timestamps) - 1)
        rate = 1 / (stream.time_base * (min(mode, mean) or mean))
    return 1 / (1 / rate).limit_denominator(65_535)  # MPEG-4 has a 16-bit clock


def is_constant_rate(timestamps: Sequence[int]) -> bool:
    """Return whether the time stamps have a constant interval, apart from rounding."""
    steps = [after - before for before, after in pairwise(timestamps)]
    return not steps or max(steps) - min(steps) <= 1


def dropped_properties(
    source: "InputContainer",
    stream: "VideoStream",
    first: "VideoFrame",
    timestamps: Sequence[int],
    container_format: str,
) -> list[str]:
    """Return the names of the properties and streams of a video that the output does not keep.

    Args:
        source: opened source video.
        stream: video stream that is restored.
        first: first frame of the stream.
        timestamps: sorted time stamps of all frames.
        container_format: FFmpeg's name of the output container.
    """
    dropped = _dropped_by_encoder(stream, first, encoding_for(container_format, has_alpha(first)))
    aspect = stream.sample_aspect_ratio
    if container_format == "webm" and aspect not in (None, 0, 1):
        dropped.append(f"the pixel aspect ratio {aspect}")
    if container_format == "avi":
        dropped += _dropped_by_avi(source, stream, first, timestamps)
    return dropped + _dropped_streams(source, stream)


def _dropped_by_encoder(
    stream: "VideoStream", first: "VideoFrame", encoding: Encoding
) -> list[str]:
    from av.video.format import VideoFormat

    dropped, pixel_format = [], first.format
    written = VideoFormat(encoding.pix_fmt_for(first.width, first.height))
    bits = max(component.bits for component in pixel_format.components)
    if bits > 8:
        dropped.append(f"{bits} bits (8 are written)")
    if not is_gray(pixel_format) and _chroma_samples(pixel_format) > _chroma_samples(written):
        dropped.append("full color resolution (4:2:0 is written)")
    if not encoding.alpha and (has_alpha(first) or stream.metadata.get("alpha_mode") == "1"):
        dropped.append("the alpha channel (.webm and .mov keep it)")
    if first.interlaced_frame:
        dropped.append("interlacing")
    side_data = (name for kind, name in _SIDE_DATA.items() if kind in first.side_data)
    return dropped + list(dict.fromkeys(side_data))


def _chroma_samples(pixel_format: "VideoFormat") -> int:
    """Return the number of chroma samples of a frame of 64 x 64 pixels."""
    return pixel_format.chroma_width(64) * pixel_format.chroma_height(64)


def _dropped_by_avi(
    source: "InputContainer",
    stream: "VideoStream",
    first: "VideoFrame",
    timestamps: Sequence[int],
) -> list[str]:
    color, dropped = frame_color(first), []
    if (color.primaries, color.transfer) != (UNSPECIFIED, UNSPECIFIED):
        dropped.append("the tags for color primaries and transfer")
    if "DISPLAYMATRIX" in first.side_data:
        dropped.append("rotation")
    if not is_constant_rate(timestamps):
        dropped.append("the variable frame rate (a constant rate is written)")
    if source.chapters():
        dropped.append("chapters")
    copied = (stream, *source.streams.audio, *source.streams.subtitles)
    if any(each.language not in (None, "und") for each in copied):
        dropped.append("languages")
    return dropped


def _dropped_streams(source: "InputContainer", stream: "VideoStream") -> list[str]:
    from av.stream import Disposition

    covers = sum(bool(s.disposition & Disposition.attached_pic) for s in source.streams.video)
    # MP4 stores chapters as a data stream too.
    chapters = bool(source.chapters()) and "mp4" in source.format.name
    counts = {
        "cover image": covers,
        "further video stream": len(source.streams.video) - covers - 1,
        "attachment": len(source.streams.attachments),
        "data stream": len(source.streams.data) - chapters,
    }
    return [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n > 0]
