"""The encoder of each video container, and the properties of a video that it cannot hold."""

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
    color_of,
    default_matrix,
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
    """An encoder, its pixel formats for even and odd sizes, and the tags that it can hold."""

    codec: str
    options: dict[str, str] = field(repr=False)
    pix_fmt: str = "yuv420p"
    odd: str = "yuv444p"
    alpha: bool = False
    matrices: frozenset[int] = frozenset({1, 5, 6, 7, 9})
    full_range: bool = True
    tags: bool = True

    def pixels(self, width: int, height: int) -> str:
        """Return the pixel format for a size."""
        return self.odd if width % 2 or height % 2 else self.pix_fmt

    def color(self, first: "VideoFrame") -> Color:
        """Return the tags to write, of which a player makes the colors of the first frame.

        RGB and gray become YCbCr of limited range. A matrix or range that can't be held is
        replaced by the one that players take without a tag.
        """
        color = color_of(first)
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
    odd="yuva420p",
    alpha=True,
)
_PRORES_ALPHA = Encoding(
    "prores_ks",
    {"profile": "4444"},
    pix_fmt="yuva444p10le",
    odd="yuva444p10le",
    alpha=True,
    matrices=frozenset({1, 6, 9}),
    full_range=False,
)
# For AVI, which has no time stamps: read from there, H.264 comes a frame late. 118 is 1 quantizer.
_MPEG4 = Encoding(
    "mpeg4",
    {"flags": "+qscale", "global_quality": str(2 * 118)},
    odd="yuv420p",
    full_range=False,
    tags=False,
)
_ENCODINGS = {
    ("avi", False): _MPEG4,
    ("webm", False): _VP9,
    ("webm", True): _VP9_ALPHA,
    ("mov", True): _PRORES_ALPHA,
}


def encoding_of(form: str, alpha: bool) -> Encoding:
    """Return the encoding for a container, with an alpha channel if wanted and possible."""
    return _ENCODINGS.get((form, alpha)) or _ENCODINGS.get((form, False), _H264)


def frame_rate(pictures: "VideoStream", times: Sequence[int], form: str) -> Fraction:
    """Return the frame rate to write.

    AVI has no time stamps but a constant rate. Of uneven times that is the most frequent one, but
    no less than the mean, so that no frame comes much later than it should.
    """
    rate = pictures.average_rate or pictures.guessed_rate or Fraction(25)
    if form != "avi":
        return rate
    if not is_even(times) and pictures.time_base:
        steps = Counter(after - before for before, after in pairwise(times))
        usual = Fraction(steps.most_common(1)[0][0])
        mean = Fraction(times[-1] - times[0], len(times) - 1)
        rate = 1 / (pictures.time_base * (min(usual, mean) or mean))
    return 1 / (1 / rate).limit_denominator(65_535)  # MPEG-4 counts in 16 bits


def is_even(times: Sequence[int]) -> bool:
    """Tell whether time stamps come at a constant rate, to within their rounding."""
    steps = [after - before for before, after in pairwise(times)]
    return not steps or max(steps) - min(steps) <= 1


def losses(
    source: "InputContainer",
    pictures: "VideoStream",
    first: "VideoFrame",
    times: Sequence[int],
    form: str,
) -> list[str]:
    """Name the properties and streams of a video that are not written into a container.

    Args:
        source: the video, open.
        pictures: the stream that is restored.
        first: its first frame.
        times: all frames' time stamps, in order.
        form: the container to be written, by FFmpeg's name.
    """
    encoding = encoding_of(form, has_alpha(first))
    return [
        *_picture_losses(pictures, first, encoding, form),
        *_container_losses(source, pictures, first, times, form),
        *_stream_losses(source, pictures),
    ]


def _picture_losses(
    pictures: "VideoStream", first: "VideoFrame", encoding: Encoding, form: str
) -> list[str]:
    from av.video.format import VideoFormat

    lost, shape = [], first.format
    written = VideoFormat(encoding.pixels(first.width, first.height))
    bits = max(component.bits for component in shape.components)
    if bits > 8:
        lost.append(f"{bits} bits (8 are written)")
    if not is_gray(shape) and _chroma(shape) > _chroma(written):
        lost.append("full color resolution (4:2:0 is written)")
    if not encoding.alpha and (has_alpha(first) or pictures.metadata.get("alpha_mode") == "1"):
        lost.append("the alpha channel (.webm and .mov keep it)")
    if first.interlaced_frame:
        lost.append("interlacing")
    lost += dict.fromkeys(name for kind, name in _SIDE_DATA.items() if kind in first.side_data)
    aspect = pictures.sample_aspect_ratio
    if form == "webm" and aspect not in (None, 0, 1):
        lost.append(f"the pixel aspect ratio {aspect}")
    return lost


def _chroma(form: "VideoFormat") -> int:
    return form.chroma_width(64) * form.chroma_height(64)


def _container_losses(
    source: "InputContainer",
    pictures: "VideoStream",
    first: "VideoFrame",
    times: Sequence[int],
    form: str,
) -> list[str]:
    if form != "avi":
        return []
    color, lost = color_of(first), []
    if (color.primaries, color.transfer) != (UNSPECIFIED, UNSPECIFIED):
        lost.append("the tags for color primaries and transfer")
    if "DISPLAYMATRIX" in first.side_data:
        lost.append("rotation")
    if not is_even(times):
        lost.append("uneven frame times (the rate is constant)")
    if source.chapters():
        lost.append("chapters")
    copied = (pictures, *source.streams.audio, *source.streams.subtitles)
    if any(stream.language not in (None, "und") for stream in copied):
        lost.append("languages")
    return lost


def _stream_losses(source: "InputContainer", pictures: "VideoStream") -> list[str]:
    from av.stream import Disposition

    covers = sum(bool(s.disposition & Disposition.attached_pic) for s in source.streams.video)
    # MP4 holds chapters as a data stream, too.
    chapters = bool(source.chapters()) and "mp4" in source.format.name
    counts = {
        "cover image": covers,
        "further video stream": len(source.streams.video) - covers - 1,
        "attachment": len(source.streams.attachments),
        "data stream": len(source.streams.data) - chapters,
    }
    return [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n > 0]
