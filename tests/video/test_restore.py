"""Restoring a video keeps its time stamps, size, sound and tags, and writes atomically."""

import struct
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mprnet_lit.utils.errors import UserError
from mprnet_lit.video.reading import read_timestamps
from mprnet_lit.video.restore import restore_video

av = pytest.importorskip("av")

from tests.video.clips import FRAMES, UNEVEN, add_sound, read_video, write_video


def invert(frame: Any) -> Any:
    return 255 - frame


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("cinema.mp4", {"rate": Fraction(24_000, 1001), "full": 1}),
        ("uneven.mp4", {"times": UNEVEN}),
        ("uneven.mkv", {"times": UNEVEN, "sound": "pcm_s16le"}),
        ("turned.mov", {"rotation": 90}),
        ("odd.mkv", {"size": (95, 63), "sound": None}),
        ("web.webm", {"codec": "libvpx-vp9", "sound": "libopus"}),
        ("old.avi", {"codec": "mpeg4", "sound": "pcm_s16le", "rate": Fraction(24_000, 1001)}),
    ],
)
def test_everything_but_the_pixels_is_kept(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    write_video(tmp_path / name, **options)
    calls = []
    out = tmp_path / "new" / name
    result = restore_video(tmp_path / name, out, invert, lambda *numbers: calls.append(numbers))
    assert result.frames == FRAMES
    assert len(read_timestamps(tmp_path / name)) == len(read_timestamps(out)) == FRAMES
    assert calls == [(i + 1, FRAMES) for i in range(FRAMES)]
    before, pictures = read_video(tmp_path / name)
    after, inverted = read_video(out)
    assert after == before
    if options.get("rotation"):
        assert after["rotation"] == options["rotation"]
    if options.get("times"):
        assert after["times"] == [Fraction(time, 1000) for time in UNEVEN]
    error = np.square(invert(pictures).astype(float) - inverted).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / error)).min() > 36
    assert list(out.parent.iterdir()) == [out]


def test_output_may_replace_the_source(tmp_path: Path) -> None:
    path = tmp_path / "cat.mp4"
    write_video(path)
    _, before = read_video(path)
    assert restore_video(path, path, invert).frames == FRAMES
    assert np.abs(read_video(path)[1].astype(int) - invert(before)).mean() < 4


CONTAINERS: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "faststart.mp4": {"movflags": "+faststart"},
    "a.mov": {"sound": "pcm_s16le"},
    "a.mkv": {"sound": "pcm_s16le"},
    "silent.mkv": {"sound": None},
    "a.webm": {"codec": "libvpx-vp9", "sound": None},
    "a.avi": {"sound": "pcm_s16le"},
    "mpeg4.avi": {"codec": "mpeg4", "sound": None},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.8, 0.9])
def test_truncated_video_is_refused_before_the_first_frame(
    tmp_path: Path, name: str, share: float
) -> None:
    path, out = tmp_path / name, tmp_path / "new" / name
    write_video(path, **CONTAINERS[name])
    complete = path.read_bytes()
    path.write_bytes(complete[: int(share * len(complete))])
    with pytest.raises(UserError, match=rf"{name} .*damaged.*(replace|repair) or remove it"):
        restore_video(path, out, lambda frame: pytest.fail("a frame was restored"))
    assert list(tmp_path.rglob("*")) == [path]


@pytest.mark.parametrize("name", CONTAINERS)
def test_trailing_bytes_are_ignored(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_video(path, **CONTAINERS[name])
    path.write_bytes(path.read_bytes() + b"\xff" * 100)
    assert restore_video(path, tmp_path / "out.mkv", invert).frames == FRAMES


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mkv", {"sound": "pcm_s16le"}),
        ("a.webm", {"codec": "libvpx-vp9", "sound": "libopus"}),
        ("a.avi", {"codec": "mpeg4", "sound": "pcm_s16le"}),
        ("a.mp4", {"movflags": "empty_moov+frag_keyframe+default_base_moof"}),
    ],
)
def test_live_recording_without_declared_length_is_complete(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    write_video(tmp_path / name, live=True, **options)
    assert restore_video(tmp_path / name, tmp_path / "out.mkv", invert).frames == FRAMES


def test_mp4_trimmed_by_an_edit_list_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, sound=None)
    content = bytearray(path.read_bytes())
    duration = content.index(b"elst") + 12  # in milliseconds: the movie's time scale is 1000
    assert struct.unpack_from(">I", content, duration) == (480,)
    struct.pack_into(">I", content, duration, 200)
    path.write_bytes(content)
    assert len(read_timestamps(path)) < FRAMES
    restore_video(path, tmp_path / "out.mkv", invert)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, out = tmp_path / "text.mp4", tmp_path / "out.mp4"
    text.write_text("#EXTM3U\nhttp://localhost/a.ts\n")
    with pytest.raises(UserError, match=r"text\.mp4 is not a readable video"):
        restore_video(text, out, invert)
    with pytest.raises(UserError, match=r"video .*gone\.mp4 does not exist"):
        restore_video(tmp_path / "gone.mp4", out, invert)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        voice = container.add_stream("aac", 48_000)
        voice.layout = "mono"
        add_sound(container, voice, "flt")
    with pytest.raises(UserError, match=r"sound\.mp4 has no video stream"):
        restore_video(tmp_path / "sound.mp4", out, invert)
    assert not out.exists()


def test_unwritable_output_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "cat.mkv", sound="pcm_s16le")
    restore = partial(restore_video, tmp_path / "cat.mkv", restore=invert)
    with pytest.raises(UserError, match=r"cat\.webm.*audio.*pcm_s16le.*choose \.mkv"):
        restore(tmp_path / "cat.webm")
    with pytest.raises(UserError, match=r"cat\.gif.*use one of \.avi"):
        restore(tmp_path / "cat.gif")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"can't write the video .*cat\.mkv"):
        restore(tmp_path / "file" / "cat.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat.mkv", "file"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_interrupted_run_keeps_the_previous_output(tmp_path: Path, stop: Any) -> None:
    path, out = tmp_path / "cat.mp4", tmp_path / "out.mp4"
    write_video(path)
    out.write_bytes(b"previous")

    def progress(done: Any, total: Any) -> None:
        if done == 5:
            raise stop

    with pytest.raises(stop):
        restore_video(path, out, invert, progress)
    assert out.read_bytes() == b"previous"
    assert sorted(tmp_path.iterdir()) == [path, out]


def test_missing_pyav_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install -e '.*\[video\]'"):
        read_timestamps(tmp_path / "a.mp4")
