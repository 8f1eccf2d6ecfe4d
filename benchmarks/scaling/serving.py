"""Throughput of the page for 8 visitors at once, and the peak memory.

python -m benchmarks.scaling.serving [SIDE ...]
"""

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from mprnet_lit import Restorer
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.photo_restorer import Options, PhotoRestorer
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.weights.shipped import shipped

SIDES = (64, 128, 256)
_VISITORS, _ROUNDS = 8, 3


def measure(sides: Sequence[int] = SIDES, device: str = "auto") -> None:
    """Print the photos per second of 8 visitors with square photos of some sides in pixels."""
    restorer = PhotoRestorer(
        {"denoise": str(shipped("denoise"))},
        lambda file, tlc: Restorer(file, tile="auto", tlc=tlc, device=device),
    )
    rng = np.random.default_rng(0)
    for side in sides:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            uploads = Uploads(folder, 2000, 60)
            photos = [folder / f"{k}.png" for k in range(_VISITORS)]
            for photo in photos:
                Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(photo)

            def restore(photo: Path, uploads: Uploads = uploads) -> None:
                with restorer.turn(photo, Options("denoise"), Limits(50, 50)) as turn:
                    restorer.restore(turn, uploads)

            seconds = []
            with ThreadPoolExecutor(_VISITORS) as pool:
                for _ in range(_ROUNDS):
                    started = time.perf_counter()
                    list(pool.map(restore, photos))
                    seconds.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rate = _VISITORS / min(seconds)
        print(f"{side}x{side}: {rate:6.2f} photos/s, peak {peak:.2f} GB", flush=True)


if __name__ == "__main__":
    measure([int(text) for text in sys.argv[1:]] or SIDES)
