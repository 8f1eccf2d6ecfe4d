"""Encoder settings of each video container, and the properties that a container drops."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from mprnet_lit.video.reading import Source

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi", ".webm": "webm"}

_SIDE_DATA = {
    "HDR metadata": (
        *("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS"),
        *("DOVI_METADATA", "DOVI_RPU_BUFFER"),
    ),
    "360-degree projection": ("SPHERICAL",),
    "stereo layout": ("STEREO3D",),
    "closed captions": ("A53_CC",),
    "color profile": ("ICC_PROFILE",),
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
    options: dict[str, str]
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


# For clips of 640x360, moving photos with grain (sigma 1.5 and 3 of 255), CRF 15.5 with the preset
# veryfast is 3 to 4 times as fast as CRF 16 with the preset medium. The files are 1 to 5 % smaller,
# and the PSNR of luma (43 dB) is 0.6 dB lower to 0.1 dB higher.
_H264 = Encoding(
    "libx264", {"crf": "15.5", "preset": "veryfast"}, matrices=frozenset({1, 4, 5, 6, 7, 9})
)
_VP9 = Encoding(
    "libvpx-vp9", {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
)
# MPEG-4 instead of H.264: without time stamps, which AVI lacks, decoders return H.264 one frame
# late. FFmpeg's quality scale has 118 units per quantizer step.
_MPEG4 = Encoding(
    "mpeg4",
    {"flags": "+qscale", "global_quality": str(2 * 118)},
    odd_pix_fmt="yuv420p",
    full_range=False,
    tags=False,
)
_ENCODINGS = {"avi": _MPEG4, "webm": _VP9}
_ALPHA_ENCODINGS = {
    "webm": replace(
        _VP9,
        options=_VP9.options | {"auto-alt-ref": "0"},
        pix_fmt="yuva420p",
        odd_pix_fmt="yuva420p",
        alpha=True,
    ),
    "mov": Encoding(
        "prores_ks",
        {"profile": "4444"},
        pix_fmt="yuva444p10le",
        odd_pix_fmt="yuva444p10le",
        alpha=True,
        matrices=frozenset({1, 6, 9}),
        full_range=False,
    ),
}


def encoding_for(container_format: str, alpha: bool) -> Encoding:
    """Return the encoder settings for a container, with an alpha channel if possible."""
    if alpha and container_format in _ALPHA_ENCODINGS:
        return _ALPHA_ENCODINGS[container_format]
    return _ENCODINGS.get(container_format, _H264)


def frame_rate(source: Source, container_format: str) -> Fraction:
    """Return the frame rate to write, in frames per second.

    AVI has a constant frame rate instead of time stamps. For a source with a variable rate, AVI
    gets the most frequent rate or the mean rate, whichever is higher, so that no frame is shown
    late.
    """
    stream, timestamps = source.stream, source.timestamps
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    if container_format != "avi":
        return rate
    if not _is_constant_rate(timestamps) and stream.time_base:
        steps = Counter(after - before for before, after in pairwise(timestamps))
        mode = Fraction(steps.most_common(1)[0][0])
        mean = Fraction(timestamps[-1] - timestamps[0], len(timestamps) - 1)
        rate = 1 / (stream.time_base * (min(mode, mean) or mean))
    return 1 / (1 / rate).limit_denominator(65_535)  # MPEG-4 has a 16-bit clock


def _is_constant_rate(timestamps: Sequence[int]) -> bool:
    """Return whether the time stamps have a constant interval, apart from rounding."""
    steps = [after - before for before, after in pairwise(timestamps)]
    return not steps or max(steps) - min(steps) <= 1


def dropped_properties(source: Source, container_format: str) -> list[str]:
    """Return the names of the properties and streams of a video that the output drops."""
    from av.video.format import VideoFormat

    container, stream, first = source.container, source.stream, source.first
    encoding = encoding_for(container_format, has_alpha(first))
    written = VideoFormat(encoding.pix_fmt_for(first.width, first.height))
    bits = max(component.bits for component in first.format.components)
    color, aspect = frame_color(first), stream.sample_aspect_ratio
    copied = (stream, *container.streams.audio, *container.streams.subtitles)
    avi = container_format == "avi"
    dropped = {
        f"{bits} bits (8 are written)": bits > 8,
        "full color resolution (4:2:0 is written)": not is_gray(first.format)
        and _chroma_samples(first.format) > _chroma_samples(written),
        "the alpha channel (.webm and .mov keep it)": not encoding.alpha
        and (has_alpha(first) or stream.metadata.get("alpha_mode") == "1"),
        "interlacing": first.interlaced_frame,
        **{
            name: any(kind in first.side_data for kind in kinds)
            for name, kinds in _SIDE_DATA.items()
        },
        f"the pixel aspect ratio {aspect}": container_format == "webm"
        and aspect not in (None, 0, 1),
        "the tags for color primaries and transfer": avi
        and (color.primaries, color.transfer) != (UNSPECIFIED, UNSPECIFIED),
        "rotation": avi and "DISPLAYMATRIX" in first.side_data,
        "the variable frame rate (a constant rate is written)": avi
        and not _is_constant_rate(source.timestamps),
        "chapters": avi and bool(container.chapters()),
        "languages": avi and any(each.language not in (None, "und") for each in copied),
    }
    return [name for name, is_dropped in dropped.items() if is_dropped] + _dropped_streams(source)


def _chroma_samples(pixel_format: "VideoFormat") -> int:
    """Return the number of chroma samples of a frame of 64 x 64 pixels."""
    return pixel_format.chroma_width(64) * pixel_format.chroma_height(64)


def _dropped_streams(source: Source) -> list[str]:
    from av.stream import Disposition

    container, streams = source.container, source.container.streams
    covers = sum(bool(s.disposition & Disposition.attached_pic) for s in streams.video)
    # MP4 also stores chapters as a data stream.
    chapters = bool(container.chapters()) and "mp4" in container.format.name
    counts = {
        "cover image": covers,
        "additional video stream": len(streams.video) - covers - 1,
        "attachment": len(streams.attachments),
        "data stream": len(streams.data) - chapters,
    }
    return [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n > 0]
