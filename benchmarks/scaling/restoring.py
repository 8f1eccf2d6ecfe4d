"""Throughput of ``mode=restore`` around the network, for folders of PNG files of 1280x720."""

import multiprocessing
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import skimage
from benchmarks.scaling.processes import in_new_process
from PIL import Image

TITLE = "Throughput of `mode=restore` with an identity network, by number of PNG files of 1280x720"
SIZES, BEFORE = (25, 50, 100), (25, 50)
_COMMANDS = (1, 2)
_WAIT = 300
"""Longest time in seconds until all commands have imported their modules."""


def measure(photos: int) -> dict[str, float]:
    """Compare reading and encoding on all cores with commands that share one folder."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_photos(folder / "in", photos)
        seconds = in_new_process(_reference, folder / "in", folder / "reference")
        figures["only reading and encoding, photos/s"] = photos / seconds
        for count in _COMMANDS:
            output = folder / f"out{count}"
            seconds = _time_commands(folder / "in", output, count)
            figures[f"{count} command{'s' * (count > 1)}, photos/s"] = photos / seconds
            assert len(list(output.glob("*.png"))) == photos
        size = sum(f.stat().st_size for f in output.glob("*.png"))
        at_level_6 = in_new_process(_bytes_at_level_6, folder / "in")
        figures["size of the files / size at zlib level 6"] = size / at_level_6
    return figures


def _write_photos(folder: Path, count: int) -> None:
    """Write photographs with noise of 0 to 3 levels."""
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


def _reference(source: Path, output: Path) -> float:
    """Return the seconds to read, encode and write all files with a thread on each core."""
    from mprnet_lit.images.photo import read_photo, write_photo
    from mprnet_lit.utils.hardware import cores

    output.mkdir()
    started = time.perf_counter()
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(lambda p: write_photo(output / p.name, read_photo(p)), source.iterdir()):
            pass
    return time.perf_counter() - started


def _bytes_at_level_6(source: Path) -> int:
    """Return the size of the files with the default compression of zlib."""
    for file in source.iterdir():
        with Image.open(file) as image:
            image.save(file, compress_level=6)
    return sum(f.stat().st_size for f in source.iterdir())


def _time_commands(source: Path, output: Path, count: int) -> float:
    """Return the seconds of commands that start together, without their imports."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(count + 1)
    commands = [
        context.Process(target=_command, args=(source, output, start)) for _ in range(count)
    ]
    for command in commands:
        command.start()
    start.wait(_WAIT)
    started = time.perf_counter()
    for command in commands:
        command.join()
        assert command.exitcode == 0
    return time.perf_counter() - started


def _command(source: Path, output: Path, start: Barrier) -> None:
    from benchmarks.scaling.identity import restore_unchanged

    start.wait(_WAIT)
    restore_unchanged(source, output)
