"""Restoration of uploaded photos."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from mprnet_lit.images.photo import read_photo, write_photo
from mprnet_lit.images.reading import Pixels, round_to_8_bits
from mprnet_lit.inference import Restorer
from mprnet_lit.inference.change import change_text, excess_text, mean_change
from mprnet_lit.serving.limits import Limits, check_photo
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError

_PREVIEW = 1600
"""Maximum side of the previews in pixels."""


@dataclass(frozen=True)
class Result:
    """Result of a restoration.

    Attributes:
        file: file of the restored photo.
        line: size, bit depth, duration, device and mean change.
        seconds: duration of the restoration, without reading and writing.
        change: mean change in levels of 255.
        before: preview of the photo beside ``file``, if previews were requested.
        after: preview of the restored photo beside ``file``, if previews were requested.
    """

    file: Path
    line: str
    seconds: float
    change: float
    before: Path | None = None
    after: Path | None = None

    @property
    def size(self) -> str:
        """Size of the file with its unit."""
        return _size(self.file)


def _size(file: Path) -> str:
    kilobytes = file.stat().st_size / 1000
    return f"{kilobytes / 1000:.1f} MB" if kilobytes >= 1000 else f"{kilobytes:.0f} kB"


def _label(name: str, task: str | None) -> str:
    return name if name == task else f"{task or 'unknown task'} \N{EN DASH} {name}"


class PhotoRestorer:
    """Restores photos with one of several networks.

    The networks are loaded at the start. Their variants with TLC are built at the first use.

    Args:
        weights: weights files by name.
        build: function that returns the Restorer of a weights file, with or without TLC.

    Attributes:
        labels: labels of the networks by name.

    Raises:
        UserError: a weights file can't be read.
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
        strength: float,
        limits: Limits,
        uploads: Uploads,
        *,
        previews: bool = True,
    ) -> Result:
        """Restore an uploaded photo and write the result into a new folder.

        A lock ensures that one photo at a time is decoded and restored.

        Args:
            path: file of the upload.
            name: name of the network.
            tlc: whether to use the test-time local converter.
            self_ensemble: whether to use self-ensemble.
            strength: share of the restoration in the result, 0 to 1.
            limits: limits of the photo.
            uploads: folder of uploads and results.
            previews: whether to write previews of both images beside the result.

        Raises:
            UserError: the photo exceeds a limit, is damaged or is not a photo, an option is
                invalid, or the folder is full.
        """
        if name not in self._weights:
            names = ", ".join(self.labels)
            raise UserError(f"weights={name[:80]} are not available: choose one of {names}")
        try:
            with self._lock, uploads.reserved(check_photo(path, limits)):
                restorer = self._restorer(name, tlc)
                restorer.self_ensemble, restorer.strength = self_ensemble, strength
                photo = read_photo(path)
                started = time.perf_counter()
                restored = restorer(photo.pixels)
                seconds = time.perf_counter() - started
                folder = uploads.folder / secrets.token_hex(32)  # not guessable
                file = folder / f"{path.stem}.restored{path.suffix.lower()}"
                write_photo(file, replace(photo, pixels=restored))
                change = mean_change(photo.pixels, restored)
                pictures = {"before": photo.pixels, "after": restored} if previews else {}
                shown = {side: _preview(folder, side, p) for side, p in pictures.items()}
        except UserError as error:  # hide the folders of the server
            message = str(error).replace(str(path), path.name)
            message = message.replace(self._weights[name], name).replace(f"{uploads.folder}/", "")
            raise type(error)(message) from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise UserError("out of memory: choose a smaller photo") from error
        height, width = restored.shape[:2]
        line = (
            f"{width} x {height} pixels, {8 * restored.itemsize} bits, {_size(file)}, restored in "
            f"{seconds:.1f} s on {restorer.device}, {change_text(change)}"
        )
        if excess := excess_text(change, restorer.info.change):
            line += f". Warning: this is {excess}: compare both images, or lower the strength"
        return Result(file, line, seconds, change, **shown)

    def _restorer(self, name: str, tlc: bool) -> Restorer:
        if (name, tlc) not in self._built:
            self._built[name, tlc] = self._build(self._weights[name], tlc)
        return self._built[name, tlc]


def _preview(folder: Path, side: str, pixels: Pixels) -> Path:
    """Write a preview with 8 bits and sides of at most 1600 pixels, and return its path."""
    image = Image.fromarray(round_to_8_bits(pixels))
    image.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
    image.save(file := folder / f"preview-{side}.png", compress_level=1)
    return file
