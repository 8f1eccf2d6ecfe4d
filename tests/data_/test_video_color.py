"""A restored video shows the colors of its source, whatever the input and the container."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from mprnet_lit.data.video import restore_video
from mprnet_lit.errors import UserError

av = pytest.importorskip("av")

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
RATE = Fraction(25)
BLOCK = 16
SD, HD = (128, 64), (1280, 32)
# Shares of red and blue in luma, by FFmpeg's number for a matrix.
LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}

X264 = {"qp": "0", "preset": "ultrafast"}
X265 = {"x265-params": "lossless=1:log-level=none", "preset": "ultrafast"}
VP9 = {"lossless": "1", "deadline": "realtime", "cpu-used": "8"}
FINE = {"flags": "+qscale", "global_quality": "118"}


@dataclass(frozen=True)
class Clip:
    """An input: how it is encoded and tagged; tags are matrix, range, primaries, transfer."""

    name: str
    codec: str
    pix_fmt: str
    options: dict = field(default_factory=dict)
    tags: tuple[int, int, int, int] = (2, 0, 2, 2)
    size: tuple[int, int] = SD


CLIPS = [
    Clip("untagged.mkv", "libx264", "yuv420p", X264),
    Clip("untagged_hd.mkv", "libx264", "yuv420p", X264, size=HD),
    Clip("sd_709.mp4", "libx264", "yuv420p", X264, (1, 1, 1, 1)),
    Clip("hd_601.mp4", "libx264", "yuv420p", X264, (6, 1, 6, 6), HD),
    Clip("fcc.mkv", "libx264", "yuv420p", X264, (4, 1, 4, 4)),
    Clip("smpte240m.mkv", "libx264", "yuv420p", X264, (7, 1, 7, 7)),
    Clip("full.mp4", "libx264", "yuvj420p", X264, (5, 2, 2, 2)),
    Clip("full_untagged.mkv", "libx264", "yuv420p", X264, (2, 2, 2, 2)),
    Clip("p3_422_full.mov", "libx264", "yuv422p", X264, (1, 2, 12, 13)),
    Clip("hdr_444.mkv", "libx264", "yuv444p", X264, (9, 1, 9, 16)),
    Clip("ten_bits.mp4", "libx264", "yuv420p10le", X264, (1, 1, 2, 2)),
    Clip("ten_bits_full.mkv", "libx265", "yuv420p10le", X265, (9, 2, 9, 18)),
    Clip("rgb.mkv", "libx264rgb", "rgb24", X264),
    Clip("rgb_hd.mp4", "libx264rgb", "rgb24", X264, size=HD),
    Clip("rgb_ten_bits.mkv", "libx265", "gbrp10le", X265),
    Clip("png.mov", "png", "rgb24"),
    Clip("png.avi", "png", "rgb24"),
    Clip("png_alpha.mov", "png", "rgba"),
    Clip("animation_alpha.mov", "qtrle", "argb"),
    Clip("prores.mov", "prores_ks", "yuv422p10le", {}, (1, 1, 1, 1)),
    Clip("prores_alpha.mov", "prores_ks", "yuva444p10le", {}, (1, 1, 1, 1)),
    Clip("vp9_full.webm", "libvpx-vp9", "yuv420p", VP9, (1, 2, 1, 13)),
    Clip("vp9_444.webm", "libvpx-vp9", "yuv444p", VP9, (1, 1, 2, 2)),
    Clip("vp9_rgb.webm", "libvpx-vp9", "gbrp", VP9),
    Clip("vp9_alpha.webm", "libvpx-vp9", "yuva420p", VP9, (1, 1, 1, 13)),
    Clip("mjpeg.avi", "mjpeg", "yuvj420p", FINE, (5, 2, 2, 2)),
    Clip("mpeg4.avi", "mpeg4", "yuv420p", FINE),
    Clip("raw_rgb.avi", "rawvideo", "bgr24"),
    Clip("raw.avi", "rawvideo", "yuv420p"),
    Clip("gray.mkv", "ffv1", "gray"),  # full range, as for FFmpeg
    Clip("gray_limited.mkv", "ffv1", "gray", {}, (2, 1, 2, 2)),
    Clip("gray_ten_bits.mkv", "ffv1", "gray10le"),
]


def chart(size):
    """A ramp of 16 grays, the corners of the RGB cube and other colors, each a block."""
    width, height = size[0] // BLOCK, size[1] // BLOCK
    grays = np.repeat(np.linspace(0, 255, 16).round()[:, None], 3, 1)
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * 255
    others = np.random.default_rng(0).integers(0, 256, (8, 3))
    colors = np.resize(np.concatenate((grays, corners, others)), (height * width, 3))
    blocks = colors.reshape(height, width, 3)
    return np.kron(blocks, np.ones((BLOCK, BLOCK, 1))).astype(np.uint8)


def alpha_ramp(size):
    row = np.arange(size[0]) // BLOCK * BLOCK * 255 // (size[0] - BLOCK)
    return np.tile(row.astype(np.uint8), (size[1], 1))


def default_matrix(size):
    return 1 if size == HD else 6


def is_ycbcr(form):
    return not form.is_rgb and len(form.components) >= 3


def scales(form, color_range):
    """Offset and length of luma, half the range of chroma, by bits and range."""
    bits = form.components[0].bits
    gray = len(form.components) < 3
    full = color_range == 2 or form.name.startswith("yuvj") or (gray and color_range != 1)
    unit, top = 2 ** (bits - 8), 2**bits - 1
    return (0, top, top, 128 * unit) if full else (16 * unit, 219 * unit, 224 * unit, 128 * unit)


def frame_of(clip, rgb, tags):
    """A frame of the colors, computed here rather than by FFmpeg's scaler."""
    frame = av.VideoFrame(*clip.size, clip.pix_fmt)
    alpha = alpha_ramp(clip.size)
    if frame.format.is_rgb:
        rgba = av.VideoFrame.from_ndarray(np.dstack((rgb, alpha)), format="rgba")
        frame = rgba.reformat(format=clip.pix_fmt)
    else:
        offset, length, chroma, middle = scales(frame.format, tags[1])
        red, blue = LUMA[default_matrix(clip.size) if tags[0] == 2 else tags[0]]
        r, g, b = np.moveaxis(rgb / 255, 2, 0)
        y = red * r + (1 - red - blue) * g + blue * b
        u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
        top = 2 ** frame.format.components[0].bits - 1
        values = [offset + length * y, middle + chroma * u, middle + chroma * v, alpha / 255 * top]
        if len(frame.planes) == 1:
            assert len(frame.format.components) == 1
        for plane, value in zip(frame.planes, values, strict=False):
            rows, columns = clip.size[1] // plane.height, clip.size[0] // plane.width
            kind = np.uint8 if top == 255 else np.uint16
            data = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
            data[:, : plane.width] = value[::rows, ::columns].round().clip(0, top)
            plane.update(data.tobytes())
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
    return frame


def tag(context, tags):
    context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags


def encode(path, clip, frames=2):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(clip.codec, RATE, options=clip.options)
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pix_fmt
        stream.codec_context.time_base = 1 / RATE
        tag(stream.codec_context, clip.tags)
        for i in range(frames):
            frame = frame_of(clip, chart(clip.size), clip.tags)
            frame.pts, frame.time_base = i, 1 / RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(path):
    """The frames as RGBA, as a player shows them by their tags, and the stream's tags."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            decoder.extradata = stream.codec_context.extradata
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
        tags = (stream.colorspace, stream.color_range, stream.color_primaries, stream.color_trc)
        return np.stack([shown(frame) for frame in frames]), tags


def shown(frame):
    if frame.format.is_rgb:
        return frame.reformat(format="rgba").to_ndarray().astype(float)
    offset, length, chroma, middle = scales(frame.format, frame.color_range)
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


def means(pictures):
    """The mean colors inside of the blocks, away from what neighbors blur."""
    count, height, width, channels = pictures.shape
    shape = (count, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    blocks = pictures.reshape(shape)[:, :, 5:11, :, 5:11].astype(float)
    return blocks.mean((0, 2, 4)).reshape(-1, channels)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """The path of a clip, which is encoded once."""
    folder = tmp_path_factory.mktemp("clips")

    def path(clip):
        if not (folder / clip.name).exists():
            encode(folder / clip.name, clip)
        return folder / clip.name

    return path


def expected_tags(clip, suffix, form):
    matrix, levels, *others = clip.tags
    if suffix == ".avi":
        return (2, 0, 2, 2)
    if not is_ycbcr(form):
        matrix, levels = default_matrix(clip.size), 1
    if suffix == ".webm":
        levels = levels or 1  # which VP9 always says
        matrix = 6 if matrix == 4 else matrix
    if suffix == ".mov" and form.components[-1].is_alpha:
        matrix, levels = 6 if matrix == 5 else matrix, levels or 1
    return (matrix, levels, *others)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_levels_and_tags_survive(encoded, tmp_path, clip, suffix):
    source, out = encoded(clip), tmp_path / f"out{suffix}"
    seen, events = [], []

    def restore(frame):
        seen.append(frame)
        events.append("frame")
        return frame

    assert restore_video(source, out, restore, say=events.append) == 2
    before, _ = decode(source)
    after, tags = decode(out)
    form = av.VideoFormat(clip.pix_fmt)
    assert tags == expected_tags(clip, suffix, form)

    truth = chart(clip.size)
    if len(form.components) == 1:
        truth = np.repeat((truth @ (0.299, 0.587, 0.114)).round()[..., None], 3, 2)
    truth = means(truth[None])
    assert np.abs(means(before)[:, :3] - truth).max() < 2  # this test's own arithmetic
    assert np.abs(means(np.stack(seen)) - truth).max() < 2
    error = means(after)[:, :3] - means(before)[:, :3]
    assert np.abs(error).max() < 5
    assert np.abs(error.mean(0)).max() < 0.6

    notes = [event for event in events if event != "frame"]
    assert notes == events[: len(notes)] and len(notes) <= 1  # one line, before the first frame
    note = "".join(notes)
    if form.components[-1].is_alpha and len(form.components) > 3:
        kept = suffix in (".webm", ".mov")
        assert ("alpha channel" in note) is not kept
        ramp = means(alpha_ramp(clip.size)[None, ..., None])[:, 0] if kept else 255
        assert np.abs(means(after)[:, 3] - ramp).max() < 3
    else:
        assert "alpha" not in note
    assert ("bits (8 are written)" in note) == (max(c.bits for c in form.components) > 8)
    assert ("4:2:0" in note) == (
        len(form.components) > 2
        and form.chroma_width(64) * form.chroma_height(64) > 32 * 32
        and not (suffix == ".mov" and form.components[-1].is_alpha)
    )
    assert ("color primaries" in note) == (suffix == ".avi" and clip.tags[2:] != (2, 2))


def test_a_matrix_that_changes_midway_is_followed(tmp_path):
    path = tmp_path / "changing.avi"
    two_parts(path, (6, 1, 2, 2), (1, 2, 2, 2))
    restore_video(path, tmp_path / "out.mkv", lambda frame: frame)
    after, tags = decode(tmp_path / "out.mkv")
    assert tags == (6, 1, 2, 2)
    truth = means(chart(SD)[None])
    for part in after[:2], after[2:]:
        assert np.abs(means(part)[:, :3] - truth).max() < 5


def test_a_transfer_that_changes_midway_is_refused(tmp_path):
    path, out = tmp_path / "changing.avi", tmp_path / "out.mkv"
    two_parts(path, (9, 1, 9, 14), (9, 1, 9, 16))
    with pytest.raises(UserError, match=r"changing\.avi .*transfer change midway: split it"):
        restore_video(path, out, lambda frame: frame)
    assert not out.exists()


def two_parts(path, *parts):
    """Write two frames with each of the tags: H.264, whose headers stand between, in AVI."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options=X264)
        stream.width, stream.height = SD
        time = 0
        for number, tags in enumerate(parts):
            encoder = stream.codec_context
            if number:
                encoder = av.CodecContext.create("libx264", "w")
                encoder.width, encoder.height = SD
                encoder.pix_fmt, encoder.options = "yuv420p", X264
            encoder.time_base = 1 / RATE
            tag(encoder, tags)
            clip = Clip("", "", "yuvj420p" if tags[1] == 2 else "yuv420p")
            frames = [frame_of(clip, chart(SD), tags) for _ in range(2)]
            for frame in (*frames, None):
                if frame is not None:
                    frame = frame if tags[1] != 2 else as_format(frame, "yuv420p")
                    frame.pts, frame.time_base = time, 1 / RATE
                    time += 1
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)


def as_format(frame, pix_fmt):
    new = av.VideoFrame(frame.width, frame.height, pix_fmt)
    for old_plane, plane in zip(frame.planes, new.planes, strict=True):
        plane.update(bytes(old_plane))
    return new


def test_an_unknown_matrix_is_refused(tmp_path):
    path = tmp_path / "ycgco.mkv"
    clip = Clip(path.name, "libx264", "yuv444p", X264)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options=X264)
        stream.width, stream.height = SD
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = 8
        frame = frame_of(clip, chart(SD), clip.tags)
        frame.pts, frame.time_base = 0, 1 / RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"ycgco\.mkv .*YCgCo, is not supported: convert it"):
        restore_video(path, tmp_path / "out.mkv", pytest.fail)
