"""Conversion between video frames and RGB arrays.

The color tags are numbers of FFmpeg. Matrix, primaries and transfer are as in ITU-T H.273, where 2
means unspecified. The range is 0 (unknown), 1 (limited) or 2 (full).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
_UNKNOWN_RANGE = 0
BT709, BT601 = 1, 6
# Matrix number of libswscale for each supported matrix number of H.273.
_SCALER_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_UNSUPPORTED = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
_PRIMARIES = {1, *range(4, 13), 22}
_TRANSFERS = {1, *range(4, 19)}


@dataclass(frozen=True)
class Color:
    """The color tags of a video: matrix, range, primaries and transfer."""

    matrix: int = UNSPECIFIED
    range: int = _UNKNOWN_RANGE
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    def scaler_settings(self, width: int, height: int) -> tuple[int, int]:
        """Return the libswscale matrix and the range for YCbCr frames with these tags."""
        matrix = default_matrix(width, height) if self.matrix == UNSPECIFIED else self.matrix
        return _SCALER_MATRIX[matrix], FULL if self.range == FULL else LIMITED

    def matches_gamut(self, other: "Color") -> bool:
        """Return whether primaries and transfer match; an unspecified tag matches any other."""
        pairs = (self.primaries, other.primaries), (self.transfer, other.transfer)
        return all(a == b or UNSPECIFIED in (a, b) for a, b in pairs)


def frame_color(frame: "VideoFrame") -> Color:
    """Return the color tags of a frame; invalid tags are replaced by "unspecified".

    Raises:
        UserError: the color matrix is not supported by libswscale.
    """
    matrix = frame.colorspace if is_ycbcr(frame.format) else UNSPECIFIED
    if matrix in (0, 3):  # RGB and a reserved number: invalid for YCbCr
        matrix = UNSPECIFIED
    if matrix != UNSPECIFIED and matrix not in _SCALER_MATRIX:
        name = _UNSUPPORTED.get(matrix, f"number {matrix}")
        raise UserError(f"its color matrix {name} is not supported: convert the video to BT.709")
    return Color(
        matrix,
        FULL if frame.format.name.startswith("yuvj") else frame.color_range,
        frame.color_primaries if frame.color_primaries in _PRIMARIES else UNSPECIFIED,
        frame.color_trc if frame.color_trc in _TRANSFERS else UNSPECIFIED,
    )


def default_matrix(width: int, height: int) -> int:
    """Return the matrix that players assume for an untagged video: BT.709 for HD, else BT.601."""
    return BT709 if width >= 1280 or height > 576 else BT601


def is_ycbcr(pixel_format: "VideoFormat") -> bool:
    """Return whether a pixel format is YCbCr (not RGB, a palette or gray)."""
    return not pixel_format.is_rgb and len(pixel_format.components) >= 3


def is_gray(pixel_format: "VideoFormat") -> bool:
    """Return whether a pixel format is gray, with or without alpha."""
    is_color = pixel_format.is_rgb or pixel_format.has_palette
    return not is_color and len(pixel_format.components) < 3


def has_alpha(frame: "VideoFrame") -> bool:
    """Return whether a frame has an alpha channel or a palette with a transparent color."""
    if frame.format.has_palette:
        return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)
    return any(component.is_alpha for component in frame.format.components)


def to_rgb(
    frame: "VideoFrame", alpha: bool = False, scaler: "VideoReformatter | None" = None
) -> NDArray[np.uint8]:
    """Convert a frame to RGB, shape (H, W, 3), or RGBA, shape (H, W, 4), with 8 bits.

    More than 8 bits are rounded. The matrix defaults to :func:`default_matrix`. The range defaults
    to limited, or to full for gray (as in FFmpeg).

    Args:
        frame: decoded frame.
        alpha: whether to return RGBA.
        scaler: scaler to reuse, for speed; one thread may use a scaler at a time.

    Raises:
        UserError: the color matrix is not supported by libswscale.
    """
    tags = frame_color(frame)
    matrix, levels = tags.scaler_settings(frame.width, frame.height)
    planar = (scaler or new_scaler()).reformat(  # three times as fast as packed RGB, and equal
        frame,
        format="gbrap" if alpha else "gbrp",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=levels if is_ycbcr(frame.format) else FULL,
        dst_color_range=FULL,
        interpolation=_scaler_flags(),
    )
    planes: Any = planar.planes  # PyAV does not declare the buffer protocol
    green, blue, red, *opacity = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in planes
    )
    rgb = np.asarray(cv2.merge((red, green, blue, *opacity)), np.uint8)
    if is_gray(frame.format) and tags.range == LIMITED:  # libswscale treats gray as full range
        gray = (rgb[..., :3].astype(np.float32) - 16) * (255 / 219)
        rgb = np.dstack((gray.round().clip(0, 255).astype(np.uint8), rgb[..., 3:]))
    return rgb


def to_frame(
    pixels: NDArray[np.uint8],
    pix_fmt: str,
    color: Color,
    scaler: "VideoReformatter | None" = None,
) -> "VideoFrame":
    """Convert RGB (H, W, 3) or RGBA (H, W, 4) to a YCbCr frame with color tags.

    ``scaler`` is a scaler to reuse; see :func:`to_rgb`.
    """
    import av

    name = "rgba" if pixels.shape[2] == 4 else "rgb24"
    matrix, levels = color.scaler_settings(pixels.shape[1], pixels.shape[0])
    rgb = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format=name)
    frame = (scaler or new_scaler()).reformat(
        rgb,
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=levels,
        interpolation=_scaler_flags(),
    )
    set_color(frame, color)
    return frame


def set_color(tagged: Any, color: Color) -> None:
    """Set the color tags of a frame or an encoder."""
    tagged.colorspace, tagged.color_range = color.matrix, color.range
    tagged.color_primaries, tagged.color_trc = color.primaries, color.transfer


def new_scaler() -> "VideoReformatter":
    """Return a scaler, which keeps its tables from one frame to the next."""
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


def _scaler_flags() -> int:
    """Return the flags of libswscale. The last three prevent 4:2:0 from darkening by one level."""
    from av.video.reformatter import Interpolation as Flag

    return Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP
