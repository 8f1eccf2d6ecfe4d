"""Measure how long a training takes to list its images, and their memory, for large folders.

python -m benchmarks.scaling.data_folders 1000 10000 100000
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

SIZES = (1_000, 10_000, 100_000)
_PER_FOLDER = 1_000


def make(folder: Path, count: int) -> None:
    """Create ``count`` pairs of PNG images of 16x12 in ``in`` and ``gt``, 1,000 in a folder.

    The images of a folder are hard links, which are faster to create.
    """
    old = time.time() - 3600
    for side, value in (("in", 90), ("gt", 100)):
        image = Image.fromarray(np.full((12, 16, 3), value, np.uint8))
        for first in range(0, count, _PER_FOLDER):
            inside = folder / side / f"scene_{first // _PER_FOLDER:04d}"
            inside.mkdir(parents=True)
            paths = [f"{inside}/image_{first + k:07d}.png" for k in range(_PER_FOLDER)]
            image.save(paths[0])
            os.utime(paths[0], (old, old))
            for path in paths[1:]:
                os.link(paths[0], path)


def start(folder: Path, kind: str) -> dict[str, float]:
    """List the images as a training does; return the seconds and the memory in bytes.

    ``cpu`` counts the CPU time of this process and of those that it starts.
    """
    from mprnet_lit.data import CleanFolder, PairedFolders, RestorationDataModule
    from mprnet_lit.utils.hardware import peak_resident

    sources: dict[str, tuple[Any, Any]] = {
        "clean": (CleanFolder(folder / "gt"), CleanFolder(None)),
        "paired": (PairedFolders(folder / "in", folder / "gt"), PairedFolders(None, None)),
    }
    data = RestorationDataModule(*sources[kind], patch_size=8, batch_size=1)
    process = psutil.Process()
    before, cpu, begin = process.memory_info().rss, sum(os.times()[:4]), time.perf_counter()
    data.setup()
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "cpu": sum(os.times()[:4]) - cpu,
        "resident": process.memory_info().rss - before,
        "peak": max(peak_resident() - before, 0),
    }


def measure(count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of the first and the second start for each kind of folder.

    Each start is a process of its own. The files are in the page cache.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, count)
        for kind in ("clean", "paired"):
            environment = os.environ | {"MPRNET_LIT_CACHE": str(folder / f"cache-{kind}")}
            command = [sys.executable, "-m", __spec__.name, kind, str(folder)]
            found[kind] = {}
            for run in ("first", "second"):
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=True
                )
                found[kind][run] = json.loads(done.stdout)
    return found


def main(arguments: list[str]) -> None:
    """Print the figures of each number of images, or those of one start."""
    if arguments[:1] in (["clean"], ["paired"]):
        print(json.dumps(start(Path(arguments[1]), arguments[0])))
        return
    for count in [int(a) for a in arguments] or SIZES:
        for kind, runs in measure(count).items():
            for run, figures in runs.items():
                memory = ", ".join(f"{n} {figures[n] / 1e6:.0f} MB" for n in ("resident", "peak"))
                time_used = f"{figures['seconds']:.2f} s ({figures['cpu']:.2f} s of CPU)"
                print(f"{count} {kind}, {run} start: {time_used}; {memory}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
