"""Conversion between the frames of a video and RGB, by the tags for matrix and range.

Tags are FFmpeg's numbers, those of ITU-T H.273; 2 stands for "unspecified".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
_UNKNOWN_RANGE = 0
BT709, BT601 = 1, 6
# The matrices that FFmpeg's scaler knows, by the scaler's own numbers.
_SCALER = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_REFUSED = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
_PRIMARIES = {1, *range(4, 13), 22}
_TRANSFERS = {1, *range(4, 19)}


@dataclass(frozen=True)
class Color:
    """The color tags of a video: matrix, range, primaries and transfer."""

    matrix: int = UNSPECIFIED
    range: int = _UNKNOWN_RANGE
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    def coding(self, width: int, height: int) -> tuple[int, int]:
        """Return the scaler's matrix and the range of YCbCr frames with these tags."""
        matrix = default_matrix(width, height) if self.matrix == UNSPECIFIED else self.matrix
        return _SCALER[matrix], FULL if self.range == FULL else LIMITED

    def has_gamut_of(self, other: "Color") -> bool:
        """Return whether primaries and transfer equal the other's, where both are specified."""
        pairs = (self.primaries, other.primaries), (self.transfer, other.transfer)
        return all(one == two or UNSPECIFIED in (one, two) for one, two in pairs)


def color_of(frame: "VideoFrame") -> Color:
    """Return a frame's tags; those that have no meaning count as unspecified.

    Raises:
        UserError: the scaler has no such matrix.
    """
    matrix = frame.colorspace if is_ycbcr(frame.format) else UNSPECIFIED
    if matrix in (0, 3):  # RGB, which YCbCr is not, and a reserved number
        matrix = UNSPECIFIED
    if matrix != UNSPECIFIED and matrix not in _SCALER:
        name = _REFUSED.get(matrix, f"number {matrix}")
        raise UserError(f"its color matrix, {name}, is not supported: convert it to BT.709 first")
    full = frame.format.name.startswith("yuvj")
    return Color(
        matrix,
        FULL if full else frame.color_range,
        frame.color_primaries if frame.color_primaries in _PRIMARIES else UNSPECIFIED,
        frame.color_trc if frame.color_trc in _TRANSFERS else UNSPECIFIED,
    )


def default_matrix(width: int, height: int) -> int:
    """Return the matrix that players take for a video without a tag: BT.709 for HD, else BT.601."""
    return BT709 if width >= 1280 or height > 576 else BT601


def is_ycbcr(form: "VideoFormat") -> bool:
    """Tell YCbCr from RGB and gray."""
    return not form.is_rgb and len(form.components) >= 3


def is_gray(form: "VideoFormat") -> bool:
    """Tell gray, with or without alpha, from RGB, a palette and YCbCr."""
    return not form.is_rgb and not form.has_palette and len(form.components) < 3


def has_alpha(frame: "VideoFrame") -> bool:
    """Tell whether a frame has an alpha channel; a palette, whether one of its colors has."""
    if frame.format.has_palette:
        return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)
    return any(component.is_alpha for component in frame.format.components)


def to_rgb(frame: "VideoFrame", alpha: bool = False) -> NDArray[np.uint8]:
    """Return a frame's pixels as (H, W, 3) RGB of 0 to 255, or (H, W, 4) RGBA.

    More than 8 bits are rounded. Frames without a matrix are converted by ``default_matrix``,
    those without a range by the limited one, but gray, which is full as for FFmpeg.

    Raises:
        UserError: the scaler does not have the frame's matrix.
    """
    tags = color_of(frame)
    matrix, levels = tags.coding(frame.width, frame.height)
    pixels = frame.reformat(
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=levels if is_ycbcr(frame.format) else FULL,
        dst_color_range=FULL,
        interpolation=_scaling(),
    ).to_ndarray()
    rgb = np.asarray(pixels, np.uint8)
    if is_gray(frame.format) and tags.range == LIMITED:  # which the scaler takes for full
        gray = (rgb[..., :3].astype(np.float32) - 16) * (255 / 219)
        rgb = np.dstack((gray.round().clip(0, 255).astype(np.uint8), rgb[..., 3:]))
    return rgb


def to_frame(pixels: NDArray[np.uint8], pix_fmt: str, color: Color) -> "VideoFrame":
    """Return a YCbCr frame of (H, W, 3) RGB or (H, W, 4) RGBA, with these tags."""
    import av

    name = "rgba" if pixels.shape[2] == 4 else "rgb24"
    matrix, levels = color.coding(pixels.shape[1], pixels.shape[0])
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=name).reformat(
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=levels,
        interpolation=_scaling(),
    )
    set_color(frame, color)
    return frame


def set_color(tagged: Any, color: Color) -> None:
    """Set the tags of a frame or of an encoder."""
    tagged.colorspace, tagged.color_range = color.matrix, color.range
    tagged.color_primaries, tagged.color_trc = color.primaries, color.transfer


def _scaling() -> int:
    """Return the scaler's flags. Without the last three it makes 4:2:0 darker, by a level or so."""
    from av.video.reformatter import Interpolation as Flag

    return Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP
