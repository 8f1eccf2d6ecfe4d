"""Patches per second from shards, a prepared store and a folder of PNG files.

python -m benchmarks.scaling.shards 16 64 256

The images are in the page cache. Each measurement is a process of its own without data workers, so
that the CPU time of a patch is that of one worker.
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
import skimage
from PIL import Image

SIZES = (16, 64, 256)
KINDS = ("folder", "store", "shards")
_WIDTH, _HEIGHT = 1280, 720
_DIFFERENT = 16
_PATCH, _BATCH, _SHARD_MB = 256, 16, 64


def make(folder: Path, count: int) -> None:
    """Create ``count`` pairs of PNG images of 1280x720, parts of a photograph with noise.

    After the first images, the files are hard links to them, which are faster to create.
    """
    photo = Image.open(Path(skimage.__file__).parent / "data" / "coffee.png").convert("RGB")
    rng = np.random.default_rng(0)
    for side in ("in", "gt"):
        (folder / side).mkdir()
    for k in range(count):
        paths = [folder / side / f"{k:06}.png" for side in ("gt", "in")]
        if k >= _DIFFERENT:
            for path in paths:
                path.hardlink_to(path.with_name(f"{k % _DIFFERENT:06}.png"))
            continue
        left, top = (int(rng.integers(size - 200)) for size in photo.size)
        part = photo.crop((left, top, left + 200, top + 112)).resize((_WIDTH, _HEIGHT))
        for path, sigma in zip(paths, (2, 6), strict=True):
            noisy = np.asarray(part) + rng.normal(0, sigma, (_HEIGHT, _WIDTH, 1))
            image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
            image.save(path, compress_level=1)


def prepare(folder: Path, kind: str) -> None:
    """Write the store or the shards."""
    command = [sys.executable, "-m", "mprnet_lit", "mode=prepare", "data=paired"]
    command += [f"data.train.degraded={folder}/in", f"data.train.target={folder}/gt"]
    command += [f"output={folder}/{kind}"]
    if kind == "shards":
        command += ["prepare.format=webdataset", f"prepare.shard_mb={_SHARD_MB}"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)


def read(folder: Path, kind: str) -> dict[str, float]:
    """Read one epoch; return the number of patches, the seconds and the CPU seconds."""
    from mprnet_lit.data import (
        PairedFolders,
        Prepared,
        RestorationDataModule,
        ShardDataModule,
        Shards,
    )

    options: Any = {"patch_size": _PATCH, "batch_size": _BATCH, "num_workers": 0}
    if kind == "shards":
        place = folder / kind
        data: RestorationDataModule = ShardDataModule(
            Shards(place, "train"), Shards(place, "val"), **options
        )
    elif kind == "store":
        stores = Prepared(folder / kind, "train"), Prepared(folder / kind, "val")
        data = RestorationDataModule(*stores, **options)
    else:
        pairs = PairedFolders(folder / "in", folder / "gt")
        data = RestorationDataModule(pairs, PairedFolders(None, None), **options)
    data.setup()
    loader = data.train_dataloader()
    start, cpu = time.perf_counter(), time.process_time()
    patches = sum(len(batch["name"]) for batch in loader)
    return {
        "patches": patches,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
    }


def measure(count: int) -> dict[str, dict[str, float]]:
    """Return the figures of each kind for a number of pairs, and the size of its files in bytes."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, count)
        for kind in KINDS[1:]:
            prepare(folder, kind)
        for kind in KINDS:
            command = [sys.executable, "-m", __spec__.name, kind, str(folder)]
            environment = os.environ | {"MPRNET_LIT_CACHE": str(folder / "cache")}
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            )
            places = [folder / "in", folder / "gt"] if kind == "folder" else [folder / kind]
            files = [path for place in places for path in place.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            found[kind] = json.loads(done.stdout) | {"bytes": size, "files": len(files)}
    return found


def main(arguments: list[str]) -> None:
    """Print the figures of each number of pairs, or those of one kind."""
    if arguments[:1] and arguments[0] in KINDS:
        print(json.dumps(read(Path(arguments[1]), arguments[0])))
        return
    for count in [int(a) for a in arguments] or SIZES:
        for kind, figures in measure(count).items():
            print(
                f"{count} pairs, {kind}: {figures['patches'] / figures['cpu']:.1f} patches per CPU "
                f"second, {figures['patches'] / figures['seconds']:.1f} per second; "
                f"{figures['bytes'] / 1e6:.0f} MB in {figures['files']:.0f} files",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
