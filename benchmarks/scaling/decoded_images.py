"""Memory, decodes and patches per second of a machine with 1, 2 and 8 data workers.

The JPEG photographs exceed ``cache_gb``. The memory is that of the process and its workers: private
pages, shared pages once, and decoded images in files. An image in use by more than one worker is
thus counted once.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from benchmarks.scaling.processes import in_new_process

TITLE = "Decoded images, by number of data workers (32 JPEG files of 6 megapixels, cache_gb=0.4)"
SIZES = BEFORE = (1, 2, 8)
_PHOTOS, _SIDES, _CROPS = 32, (3000, 2000), 16
_CACHE_GB = 0.4
_SCRATCH = (Path("/dev/shm"), Path(tempfile.gettempdir()))


def measure(workers: int) -> dict[str, float]:
    """Read an epoch of training patches, then validate twice, in a new process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        _make(folder)
        return in_new_process(_measure, folder, workers)


def _make(folder: Path) -> None:
    """Write JPEG photographs of 6 megapixels: 18 MB each when decoded."""
    rng = np.random.default_rng(0)
    for k in range(_PHOTOS):
        coarse = rng.integers(0, 256, (50, 75, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{k}.jpg"), cv2.resize(coarse, _SIDES))


def _measure(folder: Path, workers: int) -> dict[str, float]:
    from mprnet_lit.images import reading

    log = folder.parent / f"decodes-{workers}"
    read_image = reading.read_image

    def logged(path: Path) -> Any:
        with log.open("a") as file:
            file.write("x\n")
        return read_image(path)

    def decodes() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    reading.read_image = logged  # before the modules that import the function
    from mprnet_lit.data import CleanFolder, RestorationDataModule
    from mprnet_lit.data.degradations import GaussianNoise

    data = RestorationDataModule(
        CleanFolder(folder), CleanFolder(None), GaussianNoise(25), patch_size=128, batch_size=8,
        crops_per_image=_CROPS, num_workers=workers, cache_gb=_CACHE_GB,
    )  # fmt: skip
    data.setup()
    with _peak() as memory:
        start = time.perf_counter()
        loader = data.train_dataloader()
        patches = sum(len(batch["name"]) for batch in loader)
        seconds, trained = time.perf_counter() - start, decodes()
        start = time.perf_counter()
        validation = data.val_dataloader()
        for _ in range(2):
            assert len(list(validation)) == len(data.val_samples)
        validated = time.perf_counter() - start
    return {
        "memory, MB": max(memory) / 1e6,
        "patches/s": patches / seconds,
        "decodes per training image": trained / len(data.train_samples),
        "decodes per validation image, 2 epochs": (decodes() - trained) / len(data.val_samples),
        "validation epoch, s": validated / 2,
    }


@contextmanager
def _peak() -> Iterator[list[float]]:
    """Sample the memory of this process, its workers and their files five times per second."""
    samples, done = [0.0], threading.Event()
    before = shutil.disk_usage(_SCRATCH[0]).used

    def sample() -> None:
        while not done.wait(0.2):
            files = sum(_bytes(f) for f in _SCRATCH[1].glob(".mprnet_lit-*.parts"))
            files += shutil.disk_usage(_SCRATCH[0]).used - before
            processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
            samples.append(files + sum(_resident(p.pid) for p in processes))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def _resident(pid: int) -> float:
    """Return the proportional resident memory of a process without shared-memory files."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # the process has ended
        return 0
    pages = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return pages["Pss"] - pages["Pss_Shmem"]


def _bytes(folder: Path) -> int:
    total = 0
    with suppress(OSError):  # the folder was deleted meanwhile
        for entry in os.scandir(folder):
            with suppress(OSError):
                total += entry.stat().st_size
    return total
