"""Patches per CPU second from shards, a prepared store and a folder of PNG files."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from benchmarks.scaling.processes import counted, in_new_process
from PIL import Image

TITLE = "Patches of 256x256, by number of PNG pairs of 1280x720; one process without data workers"
SIZES, BEFORE = (16, 64, 256), ()
KINDS = ("folder", "store", "shards")
_SIDES = (1280, 720)
_DIFFERENT = 16
_SHARD_MB = 64


def measure(count: int) -> dict[str, float]:
    """Read one epoch of patches from each kind of data. The files are in the page cache."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder, count)
        for kind in KINDS:
            places = [folder / "in", folder / "gt"]
            if kind != "folder":
                _prepare(folder, kind)
                places = [folder / kind]
            figures[f"{kind}, patches per CPU second"] = in_new_process(_read, folder, kind)
            sizes = [p.stat().st_size for place in places for p in place.rglob("*") if p.is_file()]
            figures[f"{kind}, MB"] = sum(sizes) / 1e6
    return figures


def _make(folder: Path, count: int) -> None:
    """Create pairs of images, parts of a photograph with noise.

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
        part = photo.crop((left, top, left + 200, top + 112)).resize(_SIDES)
        for path, sigma in zip(paths, (2, 6), strict=True):
            noisy = np.asarray(part) + rng.normal(0, sigma, (_SIDES[1], _SIDES[0], 1))
            image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
            image.save(path, compress_level=1)


def _prepare(folder: Path, kind: str) -> None:
    """Write the store or the shards."""
    command = [sys.executable, "-m", "mprnet_lit", "mode=prepare", "data=paired"]
    command += [f"data.train.degraded={folder}/in", f"data.train.target={folder}/gt"]
    command += [f"output={folder}/{kind}"]
    if kind == "shards":
        command += ["prepare.format=webdataset", f"prepare.shard_mb={_SHARD_MB}"]
    subprocess.run(command, check=True, capture_output=True)


def _read(folder: Path, kind: str) -> float:
    """Read one epoch; return the number of patches per CPU second."""
    from mprnet_lit.data import (
        PairedFolders,
        Prepared,
        RestorationDataModule,
        ShardDataModule,
        Shards,
    )

    options: Any = {"patch_size": 256, "batch_size": 16, "num_workers": 0}
    data: RestorationDataModule
    if kind == "shards":
        data = ShardDataModule(
            Shards(folder / kind, "train"), Shards(folder / kind, "val"), **options
        )
    elif kind == "store":
        stores = Prepared(folder / kind, "train"), Prepared(folder / kind, "val")
        data = RestorationDataModule(*stores, **options)
    else:
        pairs = PairedFolders(folder / "in", folder / "gt")
        data = RestorationDataModule(pairs, PairedFolders(None, None), **options)
    data.setup()
    with counted() as used:
        patches = sum(len(batch["name"]) for batch in data.train_dataloader())
    return patches / used.cpu
