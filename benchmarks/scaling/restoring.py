"""Measure mode=restore around the network: an identity network restores PNG files of 1280x720.

python -m benchmarks.scaling.restoring --photos 25 50 100 --processes 1 2 4

The reference reads, encodes and writes the same files with a thread on each core.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import skimage
import torch
from PIL import Image
from torch import Tensor

from mprnet_lit import Restorer, weights
from mprnet_lit.cli import common, restore
from mprnet_lit.images.photo import read_photo, write_photo
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.hardware import cores


class Identity(Restorer):
    """Restorer with a network that returns its input."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)

        def network(x: Tensor) -> tuple[Tensor]:
            return (x,)

        self.network: Any = network


def write_photos(folder: Path, count: int) -> None:
    """Write photographs of 1280x720 with noise of 0 to 3 levels."""
    draws = np.random.default_rng(0)
    data = Path(skimage.__file__).parent / "data"
    names = ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg")
    photos = [
        np.array(Image.open(data / name).convert("RGB").resize((1280, 720))) for name in names
    ]
    folder.mkdir()
    for number in range(count):
        photo = photos[number % len(photos)]
        noisy = photo + draws.normal(0, number % 4, photo.shape)
        image = Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))
        image.save(folder / f"{number:04}.png", compress_level=1)


def time_reference(source: Path, output: Path) -> tuple[float, float]:
    """Return the seconds to read, encode and write all files on all cores, and those of CPU."""
    output.mkdir()
    started, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda p: write_photo(output / p.name, read_photo(p)), source.iterdir()):
            pass
    return time.perf_counter() - started, time.process_time() - used


def time_restore(source: Path, output: Path, processes: int) -> tuple[float, float]:
    """Return the seconds of several commands on one folder without imports, and those of CPU."""
    command = [sys.executable, "-m", __spec__.name, "--restore", str(source), str(output)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in running:  # start together, after the imports
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    started, used = time.perf_counter(), 0.0
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    for process in running:
        assert process.stdout is not None
        used += float(process.stdout.read().split()[-1])
        assert process.wait() == 0
    return time.perf_counter() - started, used


def run_restore(source: str, output: str) -> None:
    """Restore a folder when the standard input ends."""
    import hydra

    from mprnet_lit.config.groups import CONFIG_DIR
    from mprnet_lit.config.resolvers import register_resolvers

    register_resolvers()
    file = Path(output).with_name("w.safetensors")
    arguments = [f"weights={file}", f"input={source}", f"output={output}", "inference.device=cpu"]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("restore", arguments)
    torch.set_num_threads(1)
    print("ready", flush=True)
    sys.stdin.read()
    used = time.process_time()
    with patch.object(common, "Restorer", Identity):
        restore.run(config)
    print(time.process_time() - used)


def measure(photos: int, processes: list[int]) -> dict[str, tuple[float, float]]:
    """Return seconds and CPU seconds of the reference and of each number of commands."""
    times = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights.save(MPRNet.from_size("tiny"), folder / "w.safetensors")
        write_photos(folder / "in", photos)
        times["read and encode"] = time_reference(folder / "in", folder / "reference")
        for count in processes:
            output = folder / "out"
            times[f"{count} commands"] = time_restore(folder / "in", output, count)
            assert len(list(output.glob("*.png"))) == photos
            shutil.rmtree(output)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--restore", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.restore:
        run_restore(*options.restore)
        return
    for photos in options.photos:
        for name, (seconds, used) in measure(photos, options.processes).items():
            print(
                f"{photos:6} photos of 1280x720, {name:16} {photos / seconds:6.1f} per second, "
                f"{used / photos * 1e3:6.0f} ms of CPU each",
                flush=True,
            )


if __name__ == "__main__":
    main()
