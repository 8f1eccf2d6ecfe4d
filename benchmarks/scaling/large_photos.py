"""Peak memory of restoring large photos, in bytes per pixel, with a network that costs nothing.

python -m benchmarks.scaling.large_photos                       JPEG, PNG and TIFF at three sizes
python -m benchmarks.scaling.large_photos --kinds tif --megapixels 500
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import skimage
from numpy.typing import NDArray

from mprnet_lit import MPRNet, Restorer
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.inference.change import mean_change
from mprnet_lit.utils.hardware import peak_resident

MEGAPIXELS = (12, 50, 108)
KINDS = ("jpg", "png", "tif")
_TILE = 512


def large_photo(megapixels: float, dtype: Any = np.uint8) -> NDArray[Any]:
    """Return an enlarged photograph (3:2) with noise, of uint8 or uint16."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    size = round(1.5 * height), height
    image = np.asarray(cv2.resize(skimage.data.coffee(), size, interpolation=cv2.INTER_CUBIC))
    rng = np.random.default_rng(0)
    for rows in np.array_split(image, max(1, height // 256)):  # views
        rows[:] = np.minimum(rows, 248) + rng.integers(0, 7, rows.shape, np.uint8)
    return image if dtype == np.uint8 else image.astype(np.uint16) * 257


def restore_once(path: Path, self_ensemble: bool) -> None:
    """Restore a photo in this process; print the bytes per pixel and the seconds."""
    options: dict[str, Any] = {"tile": _TILE, "device": "cpu", "self_ensemble": self_ensemble}
    restorer = Restorer(MPRNet(8, 4, 4, 1), **options)
    restorer.network = lambda tiles: [tiles]
    small = Photo(large_photo(1))
    write_photo(
        path.with_name(f"small{path.suffix}"), replace(small, pixels=restorer(small.pixels))
    )
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    photo = read_photo(path)
    read = time.perf_counter()
    restored = restorer(photo.pixels)
    done = time.perf_counter()
    write_photo(path.with_stem("restored"), replace(photo, pixels=restored))
    written = time.perf_counter()
    assert mean_change(photo.pixels, restored) == 0
    grown = peak_resident() - before
    pixels = photo.pixels.shape[0] * photo.pixels.shape[1]
    print(
        f"{path.name:18}{'x8' if self_ensemble else '':4}{8 * photo.pixels.itemsize:3} bits"
        f"{pixels / 1e6:7.0f} MP{grown / pixels:7.1f} bytes/pixel{peak_resident() / 1e9:7.2f} GB"
        f"   read {read - started:.1f} s, restore {done - read:.1f} s, write {written - done:.1f} s"
    )


def measure(kind: str, megapixels: float, ensembles: list[bool], deep: bool) -> None:
    """Restore a photo without and with self-ensemble, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"photo-{megapixels:g}.{kind}"
        write_photo(path, Photo(large_photo(megapixels, np.uint16 if deep else np.uint8)))
        for ensemble in ensembles:
            command = [sys.executable, "-m", __spec__.name, "--photo", str(path)]
            subprocess.run(command + ["--ensemble"] * ensemble, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--megapixels", nargs="+", type=float, default=MEGAPIXELS)
    parser.add_argument("--deep", action="store_true", help="16 bits instead of 8")
    parser.add_argument("--plain", action="store_true", help="without self-ensemble only")
    parser.add_argument("--photo", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ensemble", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.photo:
        restore_once(options.photo, options.ensemble)
        return
    for kind in options.kinds:
        for megapixels in options.megapixels:
            measure(kind, megapixels, [False, True][: 1 if options.plain else 2], options.deep)


if __name__ == "__main__":
    main()
