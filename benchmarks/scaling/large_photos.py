"""Peak memory of ``mode=restore`` for large photos, with a network that returns its input."""

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from benchmarks.scaling.identity import restore_unchanged
from benchmarks.scaling.processes import Used, in_new_process
from numpy.typing import NDArray

from mprnet_lit.images.photo import Photo, write_photo

TITLE = "Peak memory of `mode=restore`, by megapixels of one photo of 8 bits"
SIZES, BEFORE = (12, 50, 500), (12, 50)
_KINDS = ("jpg", "png", "tif")
_ONLY_TIFF = 200
"""Number of megapixels above which only TIFF is measured."""
_ENSEMBLE = 12
"""Number of megapixels up to which self-ensemble is measured."""


def measure(megapixels: int) -> dict[str, float]:
    """Restore a photo of each format, also with self-ensemble, each in a new process."""
    figures = {}
    for kind in ("tif",) if megapixels > _ONLY_TIFF else _KINDS:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"photo.{kind}"
            write_photo(path, Photo(large_photo(megapixels)))
            write_photo(path.with_name(f"small.{kind}"), Photo(large_photo(1)))
            for ensemble in (False, True) if megapixels <= _ENSEMBLE else (False,):
                used = in_new_process(_restore, path, ensemble)
                label = f"{kind.upper()}{', self-ensemble' * ensemble}"
                figures[f"{label}, bytes per pixel"] = used.growth / (megapixels * 1e6)
                if kind == "tif" and not ensemble:
                    figures[f"{label}, GB"] = used.growth / 1e9
    return figures


def large_photo(megapixels: float, dtype: Any = np.uint8) -> NDArray[Any]:
    """Return an enlarged photograph (3:2) with noise, of uint8 or uint16."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    size = round(1.5 * height), height
    image = np.asarray(cv2.resize(skimage.data.coffee(), size, interpolation=cv2.INTER_CUBIC))
    rng = np.random.default_rng(0)
    for rows in np.array_split(image, max(1, height // 256)):  # views
        rows[:] = np.minimum(rows, 248) + rng.integers(0, 7, rows.shape, np.uint8)
    return image if dtype == np.uint8 else image.astype(np.uint16) * 257


def _restore(path: Path, ensemble: bool) -> Used:
    options = "inference.tile=512", f"inference.self_ensemble={ensemble}"
    output = path.parent / "output"
    restore_unchanged(path.with_stem("small"), output, *options)  # imports and allocates
    return restore_unchanged(path, output, *options)
