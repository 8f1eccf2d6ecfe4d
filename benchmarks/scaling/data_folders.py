"""Time that a training takes to list its images, and their memory, for large folders."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from benchmarks.scaling.processes import Used, counted, in_new_process
from PIL import Image

TITLE = "Start of a training, by number of images (PNG files of 16x12)"
SIZES, BEFORE = (1_000, 10_000, 100_000), (1_000, 10_000)
_PER_FOLDER = 1_000


def measure(count: int) -> dict[str, float]:
    """Start with clean images and with pairs, twice each. The files are in the page cache."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder, count)
        for kind in ("clean", "paired"):
            with patch.dict(os.environ, {"MPRNET_LIT_CACHE": str(folder / f"cache-{kind}")}):
                for start in ("first", "second"):
                    used = in_new_process(_start, folder, kind)
                    figures[f"{kind}, {start} start, s"] = used.seconds
            figures[f"{kind}, second start, MB"] = used.growth / 1e6
    return figures


def _make(folder: Path, count: int) -> None:
    """Create ``count`` pairs of images in ``in`` and ``gt``, 1,000 in a folder.

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


def _start(folder: Path, kind: str) -> Used:
    from mprnet_lit.data import CleanFolder, PairedFolders, RestorationDataModule

    sources: dict[str, tuple[Any, Any]] = {
        "clean": (CleanFolder(folder / "gt"), CleanFolder(None)),
        "paired": (PairedFolders(folder / "in", folder / "gt"), PairedFolders(None, None)),
    }
    data = RestorationDataModule(*sources[kind], patch_size=8, batch_size=1)
    with counted() as used:
        data.setup()
    return used
