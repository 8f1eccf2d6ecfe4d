"""Memory, decodes and patches per second of a node with 1, 2 and 8 data workers.

python -m benchmarks.scaling.decoded_images

Each setting runs in a process of its own, on JPEG photographs that exceed ``cache_gb``. The memory
is that of the process and its workers: private pages, shared pages once, and decoded images in
files. An image in use by more than one worker is thus counted once.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

PHOTOS, SIDES, CROPS = 32, (3000, 2000), 16
CACHE_GB = 0.4
_SCRATCH = (Path("/dev/shm"), Path(tempfile.gettempdir()))


def make(folder: Path, count: int = PHOTOS) -> None:
    """Write JPEG photographs of 6 megapixels: 18 MB each when decoded."""
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = rng.integers(0, 256, (50, 75, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{k}.jpg"), cv2.resize(coarse, SIDES))


def measure(folder: Path, workers: int) -> dict[str, Any]:
    """Read one epoch of training patches, then validate twice; return the figures.

    Call this function in a new process, because it replaces the function that reads images.
    """
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
        crops_per_image=CROPS, num_workers=workers, cache_gb=CACHE_GB,
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
        "workers": workers, "memory": max(memory), "patches_per_second": patches / seconds,
        "images": len(data.train_samples), "decodes": trained,
        "validation_images": len(data.val_samples), "validation_decodes": decodes() - trained,
        "validation_seconds": validated / 2,
    }  # fmt: skip


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
    for entry in os.scandir(folder):
        try:
            total += entry.stat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total


def main() -> None:
    """Print the figures of each number of workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        make(folder)
        for workers in (1, 2, 8):
            command = [sys.executable, "-m", "benchmarks.scaling.decoded_images"]
            command += [str(folder), str(workers)]
            done = subprocess.run(command, check=True, capture_output=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{workers} workers: {figures['memory'] / 1e9:.2f} GB, "
                f"{figures['patches_per_second']:.0f} patches/s, "
                f"{figures['decodes']} decodes of {figures['images']} images; validation: "
                f"{figures['validation_decodes']} decodes of {figures['validation_images']} images "
                f"in 2 epochs, {figures['validation_seconds']:.2f} s each"
            )


if __name__ == "__main__":
    if len(sys.argv) == 3:  # for one number of workers
        print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        main()
