"""Manifest of a data folder: only new and changed files are read, and removed ones disappear."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mprnet_lit.data import CleanFolder, PairedFolders, RestorationDataModule, manifest
from mprnet_lit.data.manifest import Check, Manifest
from mprnet_lit.data.pairing import find_images, find_pairs
from mprnet_lit.data.samples import Sample, SampleList, decoded_bytes, digest
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.errors import UserError

HOUR_AGO = time.time() - 3600


def draw(path: Path, size: tuple[int, int] = (16, 12), *, age: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(path)
    os.utime(path, (HOUR_AGO - age,) * 2)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], set[str]]:
    """Return a function that returns the names of the files that were read since its last call.

    The name of a file that was read as a whole ends in an exclamation mark.
    """
    monkeypatch.setenv("MPRNET_LIT_CACHE", str(tmp_path / "cache"))
    seen: set[str] = set()
    probe = probe_image

    def spy(path: Path, *, full: bool) -> tuple[int, int]:
        seen.add(path.name + "!" * full)
        return probe(path, full=full)

    def take() -> set[str]:
        taken = set(seen)
        seen.clear()
        return taken

    monkeypatch.setattr(manifest, "probe_image", spy)
    return take


def sizes(folder: Path, check: Check = "headers") -> dict[str, tuple[int, int]]:
    return {s.name: (s.width, s.height) for s in find_images(folder, check=check)}


def test_only_new_and_changed_files_are_read_again(
    tmp_path: Path, read: Callable[[], set[str]]
) -> None:
    folder = tmp_path / "data"
    for name in ("a", "sub/b", "c"):
        draw(folder / f"{name}.png")
    expected = {"a": (16, 12), "c": (16, 12), "sub/b": (16, 12)}
    assert sizes(folder) == expected and read() == {"a.png", "b.png", "c.png"}
    assert sizes(folder) == expected and read() == set()

    draw(folder / "a.png", (24, 20), age=1)  # another time
    draw(folder / "sub/b.png", (8, 40), age=0)  # another length, the same time
    draw(folder / "d.jpg", (32, 8))
    (folder / "c.png").unlink()
    expected = {"a": (24, 20), "sub/b": (8, 40), "d": (32, 8)}
    assert sizes(folder) == expected and read() == {"a.png", "b.png", "d.jpg"}
    assert sizes(folder) == expected and read() == set()
    assert sizes(folder, "full") == expected and read() == {"a.png!", "b.png!", "d.jpg!"}


def test_young_file_is_read_again_because_it_may_change_within_the_same_time(
    tmp_path: Path, read: Callable[[], set[str]]
) -> None:
    draw(tmp_path / "data/old.png")
    draw(tmp_path / "data/young.png")
    (tmp_path / "data/young.png").touch()
    for expected in ({"old.png", "young.png"}, {"young.png"}, {"young.png"}):
        sizes(tmp_path / "data")
        assert read() == expected


def test_damage_is_found_by_a_full_check_and_remembered(
    tmp_path: Path, read: Callable[[], set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name in ("good", "bad"):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 256, (90, 90, 3), np.uint8))
    content = bytearray((folder / "bad.png").read_bytes())
    content[len(content) // 2] ^= 1  # in the pixels: the checksum of the chunk is wrong
    (folder / "bad.png").write_bytes(content)
    for path in folder.iterdir():
        os.utime(path, (HOUR_AGO, HOUR_AGO))
    assert len(sizes(folder)) == 2 and read() == {"good.png", "bad.png"}
    with pytest.raises(UserError, match=r"1 problem .*\n.*data.bad\.png can't be read"):
        find_images(folder, check="full")
    read()
    with pytest.raises(UserError, match=r"data.bad\.png can't be read"):
        find_images(folder)
    assert read() == {"bad.png!"}
    assert [s.name for s in find_images(folder, on_error="skip")] == ["good"]
    assert "bad.png can't be read" in caplog.text
    data = RestorationDataModule(
        CleanFolder(folder), CleanFolder(None), patch_size=8, verify=True, on_error="skip"
    )
    with pytest.raises(UserError, match="at least two images"):
        data.setup()


def test_one_manifest_serves_both_patterns_of_a_folder(
    tmp_path: Path, read: Callable[[], set[str]]
) -> None:
    for name in ("x/blur/1.png", "x/sharp/1.png", "x/gamma/2.png"):
        draw(tmp_path / "data" / name)
    for expected in ({"1.png"}, set[str]()):
        (pair,) = find_pairs(tmp_path / "data", tmp_path / "data", "*/blur/*", "*/sharp/*")
        assert (pair.name, pair.target) == ("x/blur/1", tmp_path / "data/x/sharp/1.png")
        assert read() == expected
    assert len(list((tmp_path / "cache/manifests").glob("*.npz"))) == 1
    assert len(sizes(tmp_path / "data")) == 3 and read() == {"2.png"}


@pytest.mark.parametrize(
    "damage", ["text", "cut", "header", "array", "lengths", "version", "readonly"]
)
def test_unusable_manifest_is_ignored(
    tmp_path: Path, read: Callable[[], set[str]], damage: str
) -> None:
    draw(tmp_path / "data/a.png")
    if damage == "readonly":
        (tmp_path / "cache").write_text("a file instead of a folder")
    else:
        sizes(tmp_path / "data")
        (path,) = (tmp_path / "cache/manifests").glob("*.npz")
        content = dict(np.load(path))
        if damage == "text":
            path.write_text("not a manifest")
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-30])
        elif damage == "header":
            path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': ["))
        elif damage == "array":
            with path.open("wb") as file:
                np.save(file, content["states"])
        elif damage == "lengths":
            np.savez(path, **content | {"sizes": np.ones((2, 2), np.int32)})
        else:
            np.savez(path, **content | {"others": np.frombuffer(b"[99, {}, [], []]", np.uint8)})
    read()
    for check in ("headers", "known") if damage == "readonly" else ("headers",):
        assert sizes(tmp_path / "data", check) == {"a": (16, 12)}
        assert read() == {"a.png"}


def test_results_follow_their_files_when_others_appear_before_them(
    tmp_path: Path, read: Callable[[], set[str]]
) -> None:
    folder = tmp_path / "data"
    names = ["bad.png", "good\udcff.png" if sys.platform == "linux" else "good.png"]
    draw(folder / names[1], (24, 20))
    (folder / names[0]).write_bytes(b"no image")
    os.utime(folder / names[0], (HOUR_AGO, HOUR_AGO))
    for before in ((), ("a.png",)):
        for name in before:
            draw(folder / name)
        found = Manifest(folder)
        (problem,) = found.probe(range(len(found.files)))
        assert found.files == [*before, *names]
        assert found.sizes.tolist() == [*([[12, 16]] * len(before)), [0, 0], [20, 24]]
        assert problem.startswith(f"{folder / 'bad.png'} is not an image")
        assert read() == ({"a.png", "bad.png!"} if before else set(names))
    assert Manifest(folder, "known").probe([1]) == [problem] and read() == set()


def test_many_files_are_read_in_processes_with_the_same_result(
    tmp_path: Path, read: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    for k in range(5):
        draw(folder / f"{k}.png", (8 + k, 8))
    (folder / "3.png").write_bytes(b"no image")
    first = Manifest(folder)
    problems = first.probe(range(5))
    monkeypatch.setenv("MPRNET_LIT_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(manifest, "_MANY", 1)
    monkeypatch.setattr(manifest, "cores", lambda: 3)
    read()
    second = Manifest(folder)
    assert second.probe(range(5)) == problems
    assert read() == set() or sys.platform != "linux"
    assert second.sizes.tolist() == first.sizes.tolist()
    assert first.sizes.tolist() == [[8, 8 + k] if k != 3 else [0, 0] for k in range(5)]
    (problem,) = problems
    assert problem.startswith(f"{folder / '3.png'} is not an image")


def module(folder: Path, *, rank: int, sent: list[Any]) -> RestorationDataModule:
    """Return a data module of one of two processes, which broadcast through ``sent``."""
    source = PairedFolders(folder / "in", folder / "gt")
    data = RestorationDataModule(source, PairedFolders(None, None), patch_size=8, batch_size=2)

    def broadcast(value: Any) -> Any:
        if rank == 0:
            sent.append(value)
        return sent[-1]

    data.trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(broadcast=broadcast))  # type: ignore[assignment]
    return data


def test_other_processes_use_the_manifest_without_a_look_at_the_folder(
    tmp_path: Path, read: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(4):
        for side in ("in", "gt"):
            draw(tmp_path / f"data/{side}/{k}.png")
    sent: list[Any] = []
    first, other, late = (module(tmp_path / "data", rank=r, sent=sent) for r in (0, 1, 1))
    first.prepare_data()
    first.setup()
    read()
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "list_names", None)
        patch.setattr(manifest, "_states", None)
        other.setup()
    assert list(other.train_samples) == list(first.train_samples)
    assert other.state_dict() == first.state_dict() and read() == set()

    draw(tmp_path / "data/in/new.png")  # the list of the first process has one more
    draw(tmp_path / "data/gt/new.png")
    sent[:] = [(digest([*first.train_samples]), "another list")]
    late.setup()
    assert len(late.train_samples) + len(late.val_samples) == 5


def test_error_of_the_first_process_is_raised_after_the_others_can_continue(
    tmp_path: Path, read: Callable[[], set[str]]
) -> None:
    draw(tmp_path / "data/in/alone.png")
    draw(tmp_path / "data/gt/other.png")
    sent: list[Any] = []
    first, other = (module(tmp_path / "data", rank=rank, sent=sent) for rank in (0, 1))
    first.prepare_data()
    for data in (first, other):
        with pytest.raises(UserError, match="no partner"):
            data.setup()
    assert sent == [None]


def test_compact_list_equals_the_samples() -> None:
    samples = [
        Sample("é/a", Path("gt/é/a.png"), Path("in/é/a.JPG"), 3, 5),
        Sample("b", Path("gt/b.webp"), None, 7, 11),
        Sample("c\udcff", Path("gt/c\udcff.npy"), None, 13, 17),
    ]
    compact = SampleList.of(samples)
    assert list(compact) == samples and len(compact) == 3 and SampleList.of(compact) is compact
    assert compact[-1] == samples[-1] and list(compact[::-1]) == samples[::-1]
    assert list(compact.take([2, 0])) == [samples[2], samples[0]]
    with pytest.raises(IndexError):
        compact[3]
    assert compact.sizes.tolist() == [[3, 5], [7, 11], [13, 17]]
    assert decoded_bytes(samples, without=".npy").tolist() == [3 * 5 * 3 * 3, 7 * 11 * 3, 0]
    assert compact.has_pairs() and not compact[1:].has_pairs() and not SampleList().has_pairs()
    # Checkpoints contain this digest.
    assert digest([samples[1]]) == hashlib.sha256(b"'b' 11 7\n()").hexdigest()
