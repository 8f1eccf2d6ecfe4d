"""What the page does with a photo, without the page."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mprnet_lit.data.formats import IMAGE_SUFFIXES, TITLES, readable
from mprnet_lit.data.images import Pixels, to_float, to_uint8
from mprnet_lit.data.photo import read_photo, write_photo
from mprnet_lit.errors import UserError
from mprnet_lit.inference import Restorer

_SHOWN = 1600
"""Longest side in pixels of what the slider shows."""


@dataclass(frozen=True)
class Limits:
    """The largest file in MB and the largest photo in megapixels."""

    megabytes: float
    megapixels: float


@dataclass(frozen=True)
class Result:
    """What came of a photo: both sides of the slider, the file, and a line about it."""

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    file: Path
    line: str


def _label(name: str, task: str | None) -> str:
    return name if name == task else f"{task or 'task not said'} \N{EN DASH} {name}"


class Choices:
    """The weights that the page offers; each is read at the start, so that none fails later.

    Args:
        weights: files by name.
        build: makes the Restorer of a file, with or without TLC.
    """

    def __init__(self, weights: Mapping[str, str], build: Callable[[str, bool], Restorer]) -> None:
        self._weights, self._build = dict(weights), build
        self._lock = threading.Lock()
        self._built = {(name, False): build(file, False) for name, file in weights.items()}
        self.labels = {name: _label(name, r.info.task) for (name, _), r in self._built.items()}

    def restore(
        self, path: Path, name: str, tlc: bool, self_ensemble: bool, limits: Limits, folder: Path
    ) -> Result:
        """Restore an uploaded photo into a new folder inside ``folder``.

        Raises:
            UserError: it is too large, damaged or no photo, or the option can't be used.
        """
        if name not in self._weights:
            raise UserError("there are no such weights: choose some of the list")
        try:
            check(path, limits)
            photo = read_photo(path)
            with self._lock:
                key = (name, bool(tlc))
                if key not in self._built:
                    self._built[key] = self._build(self._weights[name], key[1])
                restorer = self._built[key]
                restorer.self_ensemble = bool(self_ensemble)
                started = time.perf_counter()
                restored = restorer(photo.pixels)
                seconds = time.perf_counter() - started
            file = Path(mkdtemp(dir=folder)) / f"{path.stem}.restored{path.suffix.lower()}"
            write_photo(file, replace(photo, pixels=restored))
        except UserError as error:  # the visitor's name for it, not the folder of ours
            raise UserError(str(error).replace(str(path), path.name)) from error
        height, width = restored.shape[:2]
        line = (
            f"{width} x {height} pixels, {8 * restored.itemsize} bits, restored in "
            f"{seconds:.1f} s on {restorer.settings['device']}"
        )
        return Result(_shown(photo.pixels), _shown(restored), file, line)


def check(path: Path, limits: Limits) -> None:
    """Look at a file's size and header; no pixel is decoded.

    Raises:
        UserError: it is larger than allowed, or no photo.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"{path.name} is no photo of a known kind: choose {TITLES}")
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        raise UserError(
            f"{path.name} has {megabytes:.1f} MB, more than the "
            f"{limits.megabytes:g} MB allowed here"
        )
    try:
        with Image.open(path, formats=readable()) as image:
            megapixels = image.width * image.height / 1e6
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path.name} has more than the {limits.megapixels:g} megapixels allowed here"
        ) from error
    except Exception:  # read_photo says what is wrong with it, or knows better
        return
    if megapixels > limits.megapixels:
        raise UserError(
            f"{path.name} has {megapixels:.1f} megapixels, more than the "
            f"{limits.megapixels:g} allowed here"
        )


def _shown(pixels: Pixels) -> NDArray[np.uint8]:
    """Return 8 bits, no larger than a screen has use for."""
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else to_uint8(to_float(pixels)))
    image.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
    return np.asarray(image)
