"""Restoration of an uploaded photo."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mprnet_lit.images.photo import read_photo, write_photo
from mprnet_lit.images.reading import Pixels, to_float, to_uint8
from mprnet_lit.inference import Restorer
from mprnet_lit.serving.limits import Limits, check
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError

_SHOWN = 1600
"""Longest side in pixels of what the slider shows."""


@dataclass(frozen=True)
class Result:
    """Restored photo: both sides of the slider, the file, and a line about it."""

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
        self,
        path: Path,
        name: str,
        tlc: bool,
        self_ensemble: bool,
        limits: Limits,
        uploads: Uploads,
    ) -> Result:
        """Restore an uploaded photo into a new folder; one at a time is decoded and restored.

        Raises:
            UserError: the photo is too large, damaged or not a photo, an option can't be used, or
                there is no room.
        """
        if name not in self._weights:
            raise UserError("there are no such weights: choose some of the list")
        try:
            with self._lock, uploads.reserved(check(path, limits, self_ensemble)):
                restorer = self._restorer(name, tlc)
                restorer.self_ensemble = self_ensemble
                photo = read_photo(path)
                started = time.perf_counter()
                restored = restorer(photo.pixels)
                seconds = time.perf_counter() - started
                folder = uploads.folder / secrets.token_hex(32)  # cannot be guessed
                file = folder / f"{path.stem}.restored{path.suffix.lower()}"
                write_photo(file, replace(photo, pixels=restored))
                before, after = _shown(photo.pixels), _shown(restored)
        except UserError as error:  # visitors need not know the folders
            said = str(error).replace(str(path), path.name)
            said = said.replace(self._weights[name], name).replace(f"{uploads.folder}/", "")
            raise UserError(said) from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise UserError("there is too little memory: try a smaller photo") from error
        height, width = restored.shape[:2]
        line = (
            f"{width} x {height} pixels, {8 * restored.itemsize} bits, restored in "
            f"{seconds:.1f} s on {restorer.settings['device']}"
        )
        return Result(before, after, file, line)

    def _restorer(self, name: str, tlc: bool) -> Restorer:
        if (name, tlc) not in self._built:
            self._built[name, tlc] = self._build(self._weights[name], tlc)
        return self._built[name, tlc]


def _shown(pixels: Pixels) -> NDArray[np.uint8]:
    """Return a preview with 8 bits, at most 1600 pixels long."""
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else to_uint8(to_float(pixels)))
    image.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)
    return np.asarray(image)
