"""Throughput of the page for 8 visitors at once, and its memory."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from benchmarks.scaling.processes import counted, in_new_process
from PIL import Image

from mprnet_lit import Restorer
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.weights.shipped import shipped

TITLE = "The page with the packaged denoiser, 8 visitors at once, by side of the photos in pixels"
SIZES, BEFORE = (64, 128, 256), ()
_VISITORS, _ROUNDS = 8, 3


def measure(side: int) -> dict[str, float]:
    """Restore the photos of all visitors, three times, in a new process."""
    return in_new_process(_measure, side)


def _measure(side: int) -> dict[str, float]:
    from mprnet_lit.serving.photo_restorer import Options, PhotoRestorer

    restorer = PhotoRestorer(
        {"denoise": str(shipped("denoise"))},
        lambda file, tlc: Restorer(file, tile="auto", tlc=tlc),
    )
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name, counted() as used:
        folder = Path(name)
        uploads = Uploads(folder, 2000, 60)
        photos = [folder / f"{k}.png" for k in range(_VISITORS)]
        for photo in photos:
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(photo)

        def restore(photo: Path) -> None:
            with restorer.turn(photo, Options("denoise"), Limits(50, 50)) as turn:
                restorer.restore(turn, uploads)

        seconds = []
        with ThreadPoolExecutor(_VISITORS) as pool:
            for _ in range(_ROUNDS):
                started = time.perf_counter()
                list(pool.map(restore, photos))
                seconds.append(time.perf_counter() - started)
    return {"photos/s": _VISITORS / min(seconds), "peak memory, MB": used.growth / 1e6}
