"""Decoded images that processes share: one decode, one copy, a size limit, and no remains."""

import errno
import multiprocessing
import os
import pickle
import signal
import time
from collections import namedtuple
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from mprnet_lit.data import CleanFolder, RestorationDataModule, shared_cache
from mprnet_lit.data.caches import CachePlan
from mprnet_lit.data.degradations import GaussianNoise
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.shared_cache import SharedCache, node_token, open_shared_cache
from mprnet_lit.images.reading import read_image
from mprnet_lit.utils import scratch
from mprnet_lit.utils.scratch import ScratchFolder

SIDE = 40
BYTES = SIDE * SIDE * 3
TOKEN = "0123456789abcdef"
fork = multiprocessing.get_context("fork")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
    for k, image in enumerate(noise):
        Image.fromarray(image).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> SharedCache:
    return SharedCache(ScratchFolder(tmp_path, TOKEN), 3 * BYTES)


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lists the images which any process has decoded so far."""
    log = tmp_path / "decoded"
    log.touch()

    def logged(path: Path) -> Any:
        with log.open("a") as file:
            file.write(f"{path}\n")
        time.sleep(0.01)  # so that other processes want the image meanwhile
        return read_image(path)

    monkeypatch.setattr(shared_cache, "read_image", logged)
    return lambda: log.read_text().split()


def held(cache: SharedCache) -> int:
    return sum(np.load(file).nbytes for file in cache.scratch.path.glob("*.npy"))


def test_processes_decode_each_image_once(tmp_path: Path, photos: list[Path], decoded: Any) -> None:
    cache = SharedCache(ScratchFolder(tmp_path, TOKEN), 8 * BYTES)

    def read(first: int) -> None:
        other = SharedCache(ScratchFolder(tmp_path, TOKEN), 8 * BYTES) if first % 2 else cache
        for path in photos[first:] + photos[:first]:
            np.testing.assert_array_equal(other.read(path), read_image(path))

    workers = [fork.Process(target=read, args=(k // 2,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert sorted(decoded()) == [str(path) for path in photos]
    assert held(cache) == 8 * BYTES


def test_oldest_images_make_room(cache: SharedCache, photos: list[Path], decoded: Any) -> None:
    for count, path in enumerate(photos, start=1):
        cache.read(path)
        assert held(cache) == min(count, 3) * BYTES
    for path in photos[-3:]:
        cache.read(path)
    assert len(decoded()) == 8
    cache.read(photos[0])
    cache.read(photos[-3])  # the oldest, which photos[0] replaced
    assert len(decoded()) == 10


def test_files_never_exceed_the_limit(
    cache: SharedCache, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, sizes = np.save, []

    def measured(file: Any, image: Any, **options: Any) -> None:
        save(file, image, **options)
        sizes.append(held(cache) + image.nbytes)  # the new image has another suffix so far

    monkeypatch.setattr(np, "save", measured)
    for path in photos:
        cache.read(path)
    assert sizes == [min(count, 3) * BYTES for count in range(1, 9)]


def test_image_that_others_replaced_while_it_was_written_is_deleted(
    cache: SharedCache, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = np.save
    # The lock of another image may be the same.
    monkeypatch.setattr(SharedCache, "_lock", lambda *_: nullcontext())

    def slow(file: Any, image: Any, **options: Any) -> None:
        monkeypatch.setattr(np, "save", save)
        for path in photos[1:4]:
            cache.read(path)
        save(file, image, **options)

    monkeypatch.setattr(np, "save", slow)
    cache.read(photos[0])
    assert held(cache) == 3 * BYTES
    assert not [*cache.scratch.path.glob("*.part")]


def test_image_larger_than_the_cache_is_not_kept(tmp_path: Path, photos: list[Path]) -> None:
    cache = SharedCache(ScratchFolder(tmp_path, TOKEN), BYTES - 1)
    np.testing.assert_array_equal(cache.read(photos[0]), read_image(photos[0]))
    assert held(cache) == 0


def test_full_disk_does_not_stop_reading(
    cache: SharedCache, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        for _ in range(3):
            np.testing.assert_array_equal(cache.read(photos[0]), read_image(photos[0]))
    assert not [*cache.scratch.path.glob("*.part"), *cache.scratch.path.glob("*.npy")]
    for count, path in enumerate(photos[1:4], start=1):  # the failed writes take no room
        cache.read(path)
        assert held(cache) == count * BYTES
    cache.scratch.close()
    np.testing.assert_array_equal(cache.read(photos[4]), read_image(photos[4]))
    assert not cache.scratch.path.exists()


def test_folder_goes_with_its_last_user(tmp_path: Path, cache: SharedCache) -> None:
    second = ScratchFolder(tmp_path, TOKEN)
    folder = second.path
    assert folder == cache.scratch.path and folder.stat().st_mode & 0o777 == 0o700
    copy = pickle.loads(pickle.dumps(cache))  # as for a spawned worker, which is not a user
    assert copy.scratch.path == folder
    del copy
    cache.scratch.close()
    assert folder.exists()
    del second
    assert not folder.exists()


def test_folder_is_deleted_on_nfs_without_exclusive_locks_of_folders(
    cache: SharedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "lock_file", lambda *_, **__: None)
    cache.scratch.close()
    assert not cache.scratch.path.exists()


@pytest.mark.parametrize("with_worker", [True, False])
def test_folder_of_killed_processes_is_deleted(tmp_path: Path, with_worker: bool) -> None:
    """By the worker when its parent is dead, else by the next training."""

    def work(scratch: ScratchFolder, parent: int) -> None:
        scratch.delete_with_parent()
        while os.getppid() == parent:
            time.sleep(0.01)

    def train() -> None:
        scratch = ScratchFolder(tmp_path, TOKEN)
        worker = fork.Process(target=work, args=(scratch, os.getpid()))
        if with_worker:
            worker.start()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    training = fork.Process(target=train)
    training.start()
    training.join()
    deadline = time.monotonic() + 10
    while with_worker and [*tmp_path.iterdir()] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len([*tmp_path.iterdir()]) == (not with_worker)
    other = ScratchFolder(tmp_path, TOKEN[::-1])
    assert [*tmp_path.iterdir()] == [other.path]


def test_small_shared_memory_selects_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shm, disk = tmp_path / "shm", tmp_path / "disk"
    for folder in (shm, disk):
        folder.mkdir()
    free = {shm: 64_000_000, disk: 10**9}
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shared_cache, "SHARED_MEMORY", shm)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(free[path]))

    def place(space: int, reserved: int) -> Path | None:
        cache = open_shared_cache(10**9, space, TOKEN, reserved)
        return None if cache is None else cache.scratch.path.parent

    assert place(20_000_000, 40_000_000) == shm
    assert place(20_000_000, 50_000_000) == disk
    assert place(10**9, 0) is None
    first = open_shared_cache(10**9, 20_000_000, TOKEN, 0)
    free[shm] = 0  # a second process joins the first, even if the images take all space
    assert place(20_000_000, 0) == shm and first is not None


def test_machines_have_different_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = set()
    for name in ("a", "b", "a"):
        monkeypatch.setattr("platform.node", lambda name=name: name)
        tokens.add(node_token(TOKEN))
    assert len(tokens) == 2 and all(len(token) == 16 for token in tokens)


@pytest.mark.parametrize(
    ("limit", "crops", "window", "training", "validation"),
    [
        (8, 4, None, True, True),  # everything fits
        (7, 4, None, True, False),
        (5, 4, 2, True, False),  # windows
        (5, 1, None, False, True),  # each training image is read once
        (1, 1, None, False, False),
    ],
)
def test_plan(limit: int, crops: int, window: Any, training: bool, validation: bool) -> None:
    samples = [Sample(str(k), Path(f"{k}.jpg"), None, SIDE, SIDE) for k in range(8)]
    plan = CachePlan.of(samples[:6], samples[6:], crops, limit * BYTES)
    expected = (None if window is None else limit * BYTES // 2, training, validation)
    assert (plan.window, plan.training, plan.validation) == expected
    stored = [Sample("s", Path("s.npy"), None, SIDE, SIDE)]
    assert CachePlan.of(stored, stored, 4, 0).space == 0


def test_workers_read_the_order_of_one_process_and_decode_once(
    tmp_path: Path, photos: list[Path], decoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_cache, "SHARED_MEMORY", tmp_path)

    def epoch(workers: int) -> list[Any]:
        data = RestorationDataModule(
            CleanFolder(tmp_path / "photos"), CleanFolder(None), GaussianNoise(5), patch_size=16,
            batch_size=4, crops_per_image=8, num_workers=workers, cache_gb=5 * BYTES / 1e9,
        )  # fmt: skip
        data.setup()
        assert len(list(data.val_dataloader())) == 1
        return list(data.train_dataloader())

    own, shared = epoch(0), epoch(2)
    assert [batch["name"] for batch in own] == [batch["name"] for batch in shared]
    for a, b in zip(own, shared, strict=True):
        np.testing.assert_array_equal(a["degraded"], b["degraded"])
    trained = {name for batch in own for name in batch["name"]}
    assert len(trained) == 7  # more than the cache holds
    assert sorted(Path(path).stem for path in decoded()) == sorted(trained)
    assert not [*tmp_path.glob(".mprnet_lit-*")]
