"""Measure restoration: time of TLC, accuracy of tiles, and memory for a large photo.

python -m benchmarks.restoring                      TLC and tiles (minutes)
python -m benchmarks.restoring --megapixels 24      the memory of mode=restore (up to an hour)
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import hydra
import numpy as np
import skimage
import torch
from benchmarks.interleave import Job, time_jobs

from mprnet_lit import Restorer, weights
from mprnet_lit.cli import restore
from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.data.degradations import GaussianNoise
from mprnet_lit.images.reading import to_float
from mprnet_lit.metrics import psnr
from mprnet_lit.models import SIZES, MPRNet, SizeName
from mprnet_lit.utils import prefetch


def time_tlc(size: SizeName, side: int, rounds: int) -> None:
    torch.manual_seed(0)
    model, x = MPRNet.from_size(size), torch.rand(1, 3, side, side)
    restorers = {
        "plain": Restorer(model, tlc=False, tlc_crop=64, device="cpu"),
        "TLC": Restorer(model, tlc=True, tlc_crop=64, device="cpu"),
    }
    jobs = {name: partial(r.restore, x, last_only=True) for name, r in restorers.items()}
    plain, local = (figures.median for figures in time_jobs(jobs, rounds).values())
    print(f"TLC, {size}, {side}x{side}: {local / plain:.2f} times as long "
          f"({plain:.2f} s, {local:.2f} s, {rounds} rounds)")  # fmt: skip


def compare_tiles(path: str) -> None:
    photo = to_float(skimage.data.coffee())
    noisy = GaussianNoise(25)(photo, np.random.default_rng(0))
    target, x = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in (photo, noisy))

    def restored(tlc: bool, tile: int | None = None) -> torch.Tensor:
        restorer = Restorer(path, device="cpu", tlc=tlc, tlc_crop=64 if tlc else None, tile=tile)
        return restorer.restore(x, last_only=True)[-1].clamp(0, 1)

    print(f"coffee, {x.shape[3]}x{x.shape[2]}, sigma 25; differences from the whole image, 8 bits")
    print(f"{'TLC':>6}{'tile':>6}{'PSNR':>9}{'mean':>8}{'99.9 %':>8}{'max':>8}")
    for tlc in (False, True):
        whole = restored(tlc)
        print(f"{'on' if tlc else 'off':>6}{'whole':>6}{psnr(whole, target).item():9.3f}")
        for tile in (128, 192, 256, 384):
            tiled = restored(tlc, tile)
            levels = (whole - tiled).abs().flatten() * 255
            print(f"{'on' if tlc else 'off':>6}{tile:6}{psnr(tiled, target).item():9.3f}"
                  f"{levels.mean():8.3f}{levels.quantile(0.999):8.2f}"
                  f"{levels.max():8.2f}")  # fmt: skip


def time_overlap(photos: int, side: int, rounds: int) -> None:
    """Time the restoration of a folder with sequential and with parallel reading and writing."""

    class ImmediateExecutor(prefetch.OrderedExecutor):
        def submit(self, job: Callable[[], Callable[[], Any] | None], cost: float = 0) -> None:
            completion = job()
            if completion is not None:
                completion()

    def one_by_one(function: Callable[[Any], Any], items: Iterable[Any], *_: Any) -> Iterator[Any]:
        yield from map(function, items)

    photo = cv2.resize(skimage.data.coffee(), (side, side), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        for k in range(photos):
            noisy = photo + noise.normal(0, 10, photo.shape)
            cv2.imwrite(f"{folder}/{k}.png", noisy.clip(0, 255).astype(np.uint8))
        weights.save(MPRNet.from_size("tiny"), f"{folder}/w.safetensors")
        register_resolvers()
        arguments = [f"weights={folder}/w.safetensors", f"input='{folder}/*.png'"]
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            arguments += [f"output={folder}/out", "overwrite=true", "inference.device=cpu"]
            config = hydra.compose("restore", arguments)

        def sequential() -> None:
            with patch.multiple(restore, map_ahead=one_by_one, OrderedExecutor=ImmediateExecutor):
                restore.run(config)

        jobs: dict[str, Job] = {"sequential": sequential, "parallel": partial(restore.run, config)}
        slow, fast = (figures.median for figures in time_jobs(jobs, rounds).values())
    print(f"parallel reading and writing, tiny, {photos} PNG files of {side}x{side}: speedup "
          f"{slow / fast:.2f} ({slow:.2f} s, {fast:.2f} s)")  # fmt: skip


def measure_memory(size: SizeName, megapixels: float) -> None:
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    photo = cv2.resize(cv2.cvtColor(skimage.data.coffee(), cv2.COLOR_RGB2BGR),
                       (round(1.5 * height), height), interpolation=cv2.INTER_CUBIC)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(f"{folder}/photo.jpg", photo)
        torch.manual_seed(0)
        weights.save(MPRNet.from_size(size), f"{folder}/w.safetensors")
        command = [sys.executable, "-m", "mprnet_lit", "mode=restore", "inference.device=cpu",
                   "weights=w.safetensors", "input=photo.jpg", "output=out.jpg"]  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"{size}, {photo.shape[1]}x{photo.shape[0]} JPEG: peak resident memory {peak:.2f} GB, "
          f"{time.perf_counter() - started:.0f} s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="runs/denoise", help="weights of `make demo`")
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--size", default="small", choices=SIZES)
    options = parser.parse_args()
    if options.megapixels:
        measure_memory(options.size, options.megapixels)
        return
    time_tlc("tiny", 512, rounds=5)
    time_overlap(photos=8, side=640, rounds=3)
    if Path(options.weights).exists():
        compare_tiles(options.weights)
    else:
        print(f"skipped the comparison of tiles: {options.weights} does not exist (run make demo)")


if __name__ == "__main__":
    main()
