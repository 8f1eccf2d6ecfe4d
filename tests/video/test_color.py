"""A restored video has the colors of its source, for all kinds of input and containers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.color import frame_color, new_scaler, to_rgb
from mprnet_lit.video.restore import restore_video

av = pytest.importorskip("av")
from tests.video.clips import fail_on_frame
from tests.video.color_chart import (
    HD,
    RATE,
    SD,
    VP9,
    VP9_ALPHA,
    Clip,
    alpha_ramp,
    as_format,
    block_means,
    color_chart,
    decode,
    default_matrix,
    encode,
    frame_of,
    is_ycbcr,
    set_tags,
)

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")

X264 = {"qp": "0", "preset": "ultrafast"}
# libx265 returns undefined time stamps for two frames if it may reorder them.
X265 = {"x265-params": "lossless=1:bframes=0:log-level=none", "preset": "ultrafast"}
FINE = {"flags": "+qscale", "global_quality": "118"}


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
    VP9_ALPHA,
    Clip("mjpeg.avi", "mjpeg", "yuvj420p", FINE, (5, 2, 2, 2)),
    Clip("mpeg4.avi", "mpeg4", "yuv420p", FINE),
    Clip("raw_rgb.avi", "rawvideo", "bgr24"),
    Clip("raw.avi", "rawvideo", "yuv420p"),
    Clip("gray.mkv", "ffv1", "gray"),  # full range, as in FFmpeg
    Clip("gray_limited.mkv", "ffv1", "gray", {}, (2, 1, 2, 2)),
    Clip("gray_ten_bits.mkv", "ffv1", "gray10le"),
]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Clip], Path]:
    """Function that returns the path of a clip, which is encoded once."""
    folder = tmp_path_factory.mktemp("clips")

    def path(clip: Clip) -> Path:
        path = folder / clip.name
        if not path.exists():
            partial = folder / f"partial_{clip.name}"  # a failed encoder leaves a partial file
            encode(partial, clip)
            partial.rename(path)
        return path

    return path


def expected_tags(clip: Clip, suffix: str, form: Any) -> tuple[Any, ...]:
    matrix, levels, *others = clip.tags
    if suffix == ".avi":
        return (2, 0, 2, 2)
    if not is_ycbcr(form):
        matrix, levels = default_matrix(clip.size), 1
    if suffix == ".webm":
        levels = levels or 1  # VP9 always signals the range
        matrix = 6 if matrix == 4 else matrix
    if suffix == ".mov" and form.components[-1].is_alpha:
        matrix, levels = 6 if matrix == 5 else matrix, levels or 1
    return (matrix, levels, *others)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_pixel_values_and_tags_are_kept(
    encoded: Callable[[Clip], Path], tmp_path: Path, clip: Clip, suffix: str
) -> None:
    source, out = encoded(clip), tmp_path / f"out{suffix}"
    seen, events = [], []

    def restore(frame: Any) -> Any:
        seen.extend(frame)
        events.append("frame")
        return frame

    assert restore_video(source, out, restore, notify=events.append).frames == 2
    before, _ = decode(source)
    after, tags = decode(out)
    form = av.VideoFormat(clip.pix_fmt)
    assert tags == expected_tags(clip, suffix, form)

    truth = color_chart(clip.size)
    if len(form.components) == 1:
        truth = np.repeat((truth @ (0.299, 0.587, 0.114)).round()[..., None], 3, 2)
    truth = block_means(truth[None])
    assert (
        np.abs(block_means(before)[:, :3] - truth).max() < 2
    )  # checks the conversion of this test
    assert np.abs(block_means(np.stack(seen)) - truth).max() < 2
    error = block_means(after)[:, :3] - block_means(before)[:, :3]
    assert np.abs(error).max() < 5
    assert np.abs(error.mean(0)).max() < 0.6

    notes = [event for event in events if event != "frame"]
    assert (
        notes == events[: len(notes)] and len(notes) <= 1
    )  # at most one line, before the first frame
    note = "".join(notes)
    if form.components[-1].is_alpha and len(form.components) > 3:
        kept = suffix in (".webm", ".mov")
        assert ("alpha channel" in note) is not kept
        ramp = block_means(alpha_ramp(clip.size)[None, ..., None])[:, 0] if kept else 255
        assert np.abs(block_means(after)[:, 3] - ramp).max() < 3
    else:
        assert "alpha" not in note
    assert ("bits (8 are written)" in note) == (max(c.bits for c in form.components) > 8)
    assert ("4:2:0" in note) == (
        len(form.components) > 2
        and form.chroma_width(64) * form.chroma_height(64) > 32 * 32
        and not (suffix == ".mov" and form.components[-1].is_alpha)
    )
    assert ("color primaries" in note) == (suffix == ".avi" and clip.tags[2:] != (2, 2))


def test_matrix_change_midway_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "changing.avi"
    write_two_parts(path, (6, 1, 2, 2), (1, 2, 2, 2))
    restore_video(path, tmp_path / "out.mkv", lambda frame: frame)
    after, tags = decode(tmp_path / "out.mkv")
    assert tags == (6, 1, 2, 2)
    truth = block_means(color_chart(SD)[None])
    for part in after[:2], after[2:]:
        assert np.abs(block_means(part)[:, :3] - truth).max() < 5


def test_transfer_change_midway_is_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "changing.avi", tmp_path / "out.mkv"
    write_two_parts(path, (9, 1, 9, 14), (9, 1, 9, 16))
    with pytest.raises(
        UserError, match=r"changing\.avi .*color tags change midway: split the file"
    ):
        restore_video(path, out, lambda frame: frame)
    assert not out.exists()


def write_two_parts(path: Path, *parts: Any) -> None:
    """Write two frames of H.264 with each set of tags into an AVI."""
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
            set_tags(encoder, tags)
            clip = Clip("", "", "yuvj420p" if tags[1] == 2 else "yuv420p")
            frames = [frame_of(clip, color_chart(SD), tags) for _ in range(2)]
            for frame in (*frames, None):
                if frame is not None:
                    frame = frame if tags[1] != 2 else as_format(frame, "yuv420p")
                    frame.pts, frame.time_base = time, 1 / RATE
                    time += 1
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)


def test_unsupported_matrix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ycgco.mkv"
    clip = Clip(path.name, "libx264", "yuv444p", X264)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options=X264)
        stream.width, stream.height = SD
        stream.pix_fmt = "yuv444p"
        stream.codec_context.colorspace = 8
        frame = frame_of(clip, color_chart(SD), clip.tags)
        frame.pts, frame.time_base = 0, 1 / RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"ycgco\.mkv .*YCgCo is not supported: convert the video"):
        restore_video(path, tmp_path / "out.mkv", fail_on_frame)


@pytest.mark.parametrize(
    ("pix_fmt", "alpha"),
    [
        ("yuv420p", False),
        ("yuvj422p", False),
        ("yuv444p10le", False),
        ("nv12", False),
        ("yuva420p", True),
        ("rgb24", False),
        ("rgba", True),
        ("pal8", True),
        ("gray", False),
    ],
)
def test_planar_conversion_equals_that_of_libswscale_to_packed_rgb(
    pix_fmt: str, alpha: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (63, 95, 4), np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
    if pix_fmt == "pal8":
        palette = np.random.default_rng(1).integers(0, 256, (256, 4), np.uint8)
        frame = av.VideoFrame.from_ndarray((pixels[..., 0], palette), format="pal8")
    elif pix_fmt != "rgba":
        frame = frame.reformat(format=pix_fmt)
    matrix, levels = frame_color(frame).scaler_settings(frame.width, frame.height)
    flags = av.video.reformatter.Interpolation
    packed = new_scaler().reformat(
        frame,
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=levels if is_ycbcr(frame.format) else 2,
        dst_color_range=2,
        interpolation=flags.BICUBIC
        | flags.ACCURATE_RND
        | flags.FULL_CHR_H_INT
        | flags.FULL_CHR_H_INP,
    )
    np.testing.assert_array_equal(to_rgb(frame, alpha), packed.to_ndarray())
