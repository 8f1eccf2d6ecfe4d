"""Clips of a color chart, and the colors that a player shows for a clip.

The conversions are computed in NumPy, independently of libswscale, which the package uses.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = Fraction(25)
BLOCK = 16
SD, HD = (128, 64), (1280, 32)
# Weights of red and blue in luma for each matrix number of ITU-T H.273.
LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


@dataclass(frozen=True)
class Clip:
    """Encoder settings and color tags (matrix, range, primaries, transfer) of a test clip."""

    name: str
    codec: str
    pix_fmt: str
    options: dict[str, str] = field(default_factory=dict)
    tags: tuple[int, int, int, int] = (2, 0, 2, 2)
    size: tuple[int, int] = SD


VP9 = {"lossless": "1", "deadline": "realtime", "cpu-used": "8"}
VP9_ALPHA = Clip("vp9_alpha.webm", "libvpx-vp9", "yuva420p", VP9, (1, 1, 1, 13))


def color_chart(size: tuple[int, int]) -> Any:
    """Return blocks of 16 gray levels, the corners of the RGB cube and random colors."""
    width, height = size[0] // BLOCK, size[1] // BLOCK
    grays = np.repeat(np.linspace(0, 255, 16).round()[:, None], 3, 1)
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * 255
    others = np.random.default_rng(0).integers(0, 256, (8, 3))
    colors = np.resize(np.concatenate((grays, corners, others)), (height * width, 3))
    blocks = colors.reshape(height, width, 3)
    return np.kron(blocks, np.ones((BLOCK, BLOCK, 1))).astype(np.uint8)


def alpha_ramp(size: tuple[int, int]) -> Any:
    row = np.arange(size[0]) // BLOCK * BLOCK * 255 // (size[0] - BLOCK)
    return np.tile(row.astype(np.uint8), (size[1], 1))


def default_matrix(size: tuple[int, int]) -> int:
    return 1 if size == HD else 6


def is_ycbcr(form: Any) -> Any:
    return not form.is_rgb and len(form.components) >= 3


def value_ranges(form: Any, color_range: int) -> tuple[Any, ...]:
    """Return offset and range of luma, and range and center of chroma."""
    bits = form.components[0].bits
    gray = len(form.components) < 3
    full = color_range == 2 or form.name.startswith("yuvj") or (gray and color_range != 1)
    unit, top = 2 ** (bits - 8), 2**bits - 1
    return (0, top, top, 128 * unit) if full else (16 * unit, 219 * unit, 224 * unit, 128 * unit)


def frame_of(clip: Clip, rgb: NDArray[Any], tags: Any) -> Any:
    """Convert RGB to a frame without libswscale."""
    frame = av.VideoFrame(clip.size[0], clip.size[1], clip.pix_fmt)
    alpha = alpha_ramp(clip.size)
    if frame.format.is_rgb:
        rgba = av.VideoFrame.from_ndarray(np.dstack((rgb, alpha)), format="rgba")
        frame = rgba.reformat(format=clip.pix_fmt)
    else:
        offset, length, chroma, middle = value_ranges(frame.format, tags[1])
        red, blue = LUMA[default_matrix(clip.size) if tags[0] == 2 else tags[0]]
        r, g, b = np.moveaxis(rgb / 255, 2, 0)
        y = red * r + (1 - red - blue) * g + blue * b
        u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
        top = 2 ** frame.format.components[0].bits - 1
        values = [offset + length * y, middle + chroma * u, middle + chroma * v, alpha / 255 * top]
        for plane, value in zip(frame.planes, values, strict=False):
            rows, columns = clip.size[1] // plane.height, clip.size[0] // plane.width
            kind = np.uint8 if top == 255 else np.uint16
            data = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
            data[:, : plane.width] = value[::rows, ::columns].round().clip(0, top)
            plane.update(data.tobytes())
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
    return frame


def set_tags(context: Any, tags: Any) -> None:
    context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags


def encode(path: Path, clip: Clip, frames: int = 2) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(clip.codec, RATE, options=clip.options)
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pix_fmt
        stream.codec_context.time_base = 1 / RATE
        set_tags(stream.codec_context, clip.tags)
        for i in range(frames):
            frame = frame_of(clip, color_chart(clip.size), clip.tags)
            frame.pts, frame.time_base = i, 1 / RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(path: Path) -> tuple[Any, tuple[Any, Any, Any, Any]]:
    """Return the frames as RGBA, converted by their tags, and the tags of the stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            decoder.extradata = stream.codec_context.extradata
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
        tags = (stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc)
        return np.stack([displayed_rgb(frame) for frame in frames]), tags


def displayed_rgb(frame: Any) -> Any:
    if frame.format.is_rgb:
        return frame.reformat(format="rgba").to_ndarray().astype(float)
    offset, length, chroma, middle = value_ranges(frame.format, frame.color_range)
    top = 2 ** frame.format.components[0].bits - 1
    planes = []
    for plane in frame.planes:
        kind = np.uint8 if top == 255 else np.uint16
        rows = np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)[:, : plane.width]
        repeats = frame.height // plane.height, frame.width // plane.width
        planes.append(np.kron(rows.astype(float), np.ones(repeats)))
    y = (planes[0] - offset) / length
    r = g = b = y
    if len(planes) > 1:
        u, v = ((plane - middle) / chroma for plane in planes[1:3])
        size = (frame.width, frame.height)
        red, blue = LUMA[default_matrix(size) if frame.colorspace == 2 else frame.colorspace]
        r, b = y + (2 - 2 * red) * v, y + (2 - 2 * blue) * u
        g = (y - red * r - blue * b) / (1 - red - blue)
    alpha = planes[3] / top if len(planes) > 3 else np.ones_like(y)
    return np.dstack((r, g, b, alpha)).clip(0, 1) * 255


def block_means(pictures: Any) -> Any:
    """Return the mean color of the center of each block, away from blurred edges."""
    count, height, width, channels = pictures.shape
    shape = (count, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    blocks = pictures.reshape(shape)[:, :, 5:11, :, 5:11].astype(float)
    return blocks.mean((0, 2, 4)).reshape(-1, channels)


def as_format(frame: Any, pix_fmt: str) -> Any:
    new = av.VideoFrame(frame.width, frame.height, pix_fmt)
    for old_plane, plane in zip(frame.planes, new.planes, strict=True):
        plane.update(bytes(old_plane))
    return new
