"""A killed restoration resumes after the last complete segment, with the result of a single one."""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mprnet_lit.utils.atomic import remove_leftovers
from mprnet_lit.utils.errors import UserError
from mprnet_lit.video import batches, segments
from mprnet_lit.video.restore import Restored, restore_video
from mprnet_lit.video.segments import Segments

av = pytest.importorskip("av")

from tests.video.clips import FRAMES, UNEVEN, read_video, write_video
from tests.video.color_chart import VP9_ALPHA, decode, encode

SEGMENT = 4
"""Number of frames of a segment: three segments of 160 ms in 12 frames."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batches, segments):
        monkeypatch.setattr(module, "SECONDS", 0.1)


def invert(frames: Any) -> Any:
    return 255 - frames


def measure(before: Any, after: Any) -> float:
    return float(np.abs(before.astype(int) - after).mean())


def restore(source: Path, out: Path, function: Any = invert, **options: Any) -> Restored:
    return restore_video(source, out, function, measure=measure, **options)


def kill_in_frame(number: int, source: Path, out: Path, folder: Path) -> None:
    """Kill a process that restores a video, after all earlier segments are written."""
    calls = []

    def invert_or_die(frames: Any) -> Any:
        calls.append(frames)
        if len(calls) > number:
            while len(list(folder.glob("*.npz"))) < number // SEGMENT:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return invert(frames)

    process = multiprocessing.get_context("fork").Process(
        target=restore, args=(source, out, invert_or_die), kwargs={"segments": store(folder)}
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def store(folder: Path, key: str = "key") -> Segments:
    return Segments(folder, key)


def counted(calls: list[Any]) -> Callable[[Any], Any]:
    def function(frames: Any) -> Any:
        calls.extend(frames)
        return invert(frames)

    return function


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uneven.mp4", {"times": UNEVEN}),
        ("uneven.mkv", {"times": UNEVEN, "sound": "pcm_s16le"}),
        ("old.avi", {"codec": "mpeg4", "sound": "pcm_s16le"}),
    ],
)
def test_killed_restoration_resumes_with_an_equal_result(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    source, folder, out = tmp_path / name, tmp_path / "work", tmp_path / f"out_{name}"
    write_video(source, **options)
    expected = restore(source, tmp_path / f"single_{name}")
    kill_in_frame(2 * SEGMENT, source, out, folder)
    assert not out.exists()
    calls: list[Any] = []
    progress: list[tuple[int, int]] = []
    result = restore(
        source, out, counted(calls), progress=lambda *n: progress.append(n), segments=store(folder)
    )
    assert len(calls) == SEGMENT, "the last segment is restored again, but no other"
    assert progress == [(i + 1, FRAMES) for i in range(FRAMES)]
    assert result == expected and result.change > 10
    (properties, pictures), (single, all_pictures) = map(
        read_video, (out, tmp_path / f"single_{name}")
    )
    assert properties == single and np.array_equal(pictures, all_pictures)
    if not name.endswith("mkv"):  # Matroska files have random numbers
        assert out.read_bytes() == (tmp_path / f"single_{name}").read_bytes()
    store(folder).remove()
    assert not folder.exists()


def test_alpha_channel_of_reused_segments_is_kept(tmp_path: Path) -> None:
    source, folder, out = tmp_path / "a.webm", tmp_path / "work", tmp_path / "out.webm"
    encode(source, VP9_ALPHA, frames=SEGMENT + 1)
    kill_in_frame(SEGMENT, source, out, folder)
    restore(source, out, segments=store(folder))
    restore(source, tmp_path / "single.webm")
    (resumed, _), (single, _) = decode(out), decode(tmp_path / "single.webm")
    assert len(resumed) == SEGMENT + 1 and np.array_equal(resumed, single)
    assert single[..., 3].min() < 30


def test_segments_have_the_times_of_one_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.mp4"
    write_video(source, times=UNEVEN)
    restore(source, tmp_path / "many.mp4")
    monkeypatch.setattr(batches, "SECONDS", 5)
    restore(source, tmp_path / "one.mp4")
    many, one = (packets(tmp_path / name) for name in ("many.mp4", "one.mp4"))
    assert [p.is_keyframe for p in many].count(True) == FRAMES // SEGMENT
    assert [p.is_keyframe for p in one].count(True) == 1
    assert [p.dts for p in many] == [p.dts for p in one]
    assert sorted(p.pts for p in many) == sorted(p.pts for p in one)
    assert all(p.dts <= p.pts for p in many)


def packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def test_segments_of_other_settings_are_kept_until_the_end(tmp_path: Path) -> None:
    source, folder, out = tmp_path / "a.mp4", tmp_path / "work", tmp_path / "out.mp4"
    write_video(source)
    restore(source, out, segments=store(folder))
    assert len(list(folder.iterdir())) == FRAMES // SEGMENT
    calls: list[Any] = []
    restore(source, out, counted(calls), segments=store(folder))
    assert not calls, "all segments are reused"
    restore(source, out, counted(calls), segments=store(folder, "other weights"))
    assert len(calls) == FRAMES
    restore(source, tmp_path / "out.mkv", counted(calls), segments=store(folder, "other weights"))
    assert len(calls) == 2 * FRAMES, "another container may need another encoder"
    restore(source, out, counted(calls), segments=store(folder))
    assert len(calls) == 2 * FRAMES, "the first segments are kept"
    files = list(folder.iterdir())
    assert len(files) == 3 * FRAMES // SEGMENT
    for file in files:
        if file.stem.endswith("1"):
            file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"unfinished video .* is damaged .*: remove .*work"):
        restore(source, tmp_path / "out.mkv", segments=store(folder, "other weights"))
    store(folder).remove()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_kill_while_segments_are_deleted_leaves_only_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "a.npz").touch()
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # killed here
    store(folder).remove()
    monkeypatch.undo()
    assert [path.suffix for path in tmp_path.iterdir()] == [".parts"]
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_video_leaves_no_segments(tmp_path: Path) -> None:
    path, folder = tmp_path / "a.mov", tmp_path / "work"
    write_video(path, codec="png", sound=None)
    data = bytearray(path.read_bytes())
    late = data.index(b"IDAT", len(data) * 7 // 8)
    data[late : late + 2000] = bytes(2000)
    path.write_bytes(data)
    saved: list[Path] = []

    def list_segments(frames: Any) -> Any:
        saved.extend(folder.glob("*.npz"))
        return invert(frames)

    with pytest.raises(UserError, match=r"a\.mov .*replace or remove it"):
        restore(path, tmp_path / "out.mov", list_segments, segments=store(folder))
    assert saved
    assert list(tmp_path.iterdir()) == [path]


def test_codecs_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    gc.collect()
    before = count_codecs()
    gc.disable()  # it runs by number of objects; an encoder with 100 MB of frames has few
    try:
        restore(tmp_path / "a.mp4", tmp_path / "out.mp4")
        assert count_codecs() == before
    finally:
        gc.enable()


def count_codecs() -> int:
    return sum(isinstance(item, av.CodecContext) for item in gc.get_objects())


@pytest.mark.parametrize(("size", "counts"), [(8, [4] * 3), (3, [3, 1] * 3), (1, [1] * FRAMES)])
def test_batches_end_with_their_segment(tmp_path: Path, size: int, counts: list[int]) -> None:
    write_video(tmp_path / "a.mp4")
    shapes = []

    def function(frames: Any) -> Any:
        shapes.append(frames.shape)
        assert frames.dtype == np.uint8
        return frames

    restore(
        tmp_path / "a.mp4",
        tmp_path / "out.mp4",
        function,
        batch_size=lambda height, width: size if (height, width) == (64, 96) else 0,
    )
    assert shapes == [(count, 64, 96, 3) for count in counts]


def test_next_frame_is_restored_while_the_previous_one_is_encoded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    restored = [threading.Event() for _ in range(FRAMES)]
    overlaps: list[bool] = []

    def function(frames: Any) -> Any:
        next(event for event in restored if not event.is_set()).set()
        return frames

    def wait_for_the_next(before: Any, after: Any) -> float:
        overlaps.append(restored[min(len(overlaps) + 1, FRAMES - 1)].wait(10))
        return 0.0

    restore_video(tmp_path / "a.mp4", tmp_path / "out.mp4", function, measure=wait_for_the_next)
    assert overlaps == [True] * FRAMES
