"""Restoration of uploaded photos."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from mprnet_lit.images.photo import read_photo, write_photo
from mprnet_lit.images.reading import Pixels, round_to_8_bits
from mprnet_lit.inference import Restorer
from mprnet_lit.inference.change import change_text, excess_text, mean_change
from mprnet_lit.serving.batches import Batches
from mprnet_lit.serving.limits import Demand, Limits, check_memory, check_photo
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.serving.waiting_line import Ticket, WaitingLine
from mprnet_lit.utils.errors import UserError

_PREVIEW = 1600
"""Maximum side of the previews in pixels."""
_MAX_IMAGES = 8
"""Maximum number of images in a batch."""
_MAX_PIXELS, _MAX_PIXELS_ON_CPU = 2**21, 2**16
"""Maximum number of pixels in a batch. On a CPU, four images of 128x128 are faster as a batch."""


@dataclass(frozen=True)
class Options:
    """Options of a restoration, or their defaults.

    Attributes:
        weights: name of the network.
        tlc: whether to use the test-time local converter.
        self_ensemble: whether to use self-ensemble.
        strength: share of the restoration in the result, 0 to 1.
    """

    weights: str
    tlc: bool = False
    self_ensemble: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class Turn:
    """Uploaded photo with a place in the line.

    Attributes:
        path: file of the upload.
        options: options of the restoration.
        limits: limits of the photo.
        demand: estimated memory for the photo.
        ticket: place in the line.
    """

    path: Path
    options: Options
    limits: Limits
    demand: Demand
    ticket: Ticket


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
        line: line of the photos that wait.

    Raises:
        UserError: a weights file can't be read.
    """

    def __init__(self, weights: Mapping[str, str], build: Callable[[str, bool], Restorer]) -> None:
        self._weights, self._build = dict(weights), build
        self._lock = threading.Lock()
        self._batches = Batches()
        self._built = {(name, False): build(file, False) for name, file in weights.items()}
        self.line = WaitingLine()
        self.labels = {name: _label(name, r.info.task) for (name, _), r in self._built.items()}

    @contextmanager
    def turn(
        self, path: Path, options: Options, limits: Limits, client: str | None = None
    ) -> Iterator[Turn]:
        """Hold a place in the line for an uploaded photo.

        Args:
            path: file of the upload.
            options: options of the restoration.
            limits: limits of the photo.
            client: name by which a client asks for the place of the photo.

        Raises:
            BusyError: too many photos wait.
            UserError: the photo exceeds a limit or is not a photo, or the weights are unknown.
        """
        if options.weights not in self._weights:
            names = ", ".join(self.labels)
            raise UserError(
                f"weights={options.weights[:80]} are not available: choose one of {names}"
            )
        demand = check_photo(path, limits)
        batch = _batch_size(self._built[options.weights, False], demand.area)
        with self.line.joined(demand.peak, limits.available, batch, client) as ticket:
            yield Turn(path, options, limits, demand, ticket)

    def restore(self, turn: Turn, uploads: Uploads, *, previews: bool = True) -> Result:
        """Wait for the turn of a photo, restore it, and write the result into a new folder.

        Photos of the same size and with the same options that wait for the device are restored as
        one batch.

        Args:
            turn: photo with a place in the line.
            uploads: folder of uploads and results.
            previews: whether to write previews of both images beside the result.

        Raises:
            UserError: the photo needs too much memory, is damaged or is not a photo, an option is
                invalid, or the folder is full.
        """
        path, options = turn.path, turn.options
        turn.ticket.wait()
        try:
            if turn.ticket.is_alone:  # otherwise the line has checked the memory
                check_memory(path, turn.demand, turn.limits)
            with uploads.reserved(turn.demand.pixels):
                photo = read_photo(path)
                restorer = self._restorer(options.weights, options.tlc)
                restored, seconds = self._batches.restore(
                    photo.pixels,
                    options,
                    partial(_restore, restorer, options),
                    turn.ticket.batch,
                )
                folder = uploads.folder / secrets.token_hex(32)  # not guessable
                file = folder / f"{path.stem}.restored{path.suffix.lower()}"
                write_photo(file, replace(photo, pixels=restored))
                change = mean_change(photo.pixels, restored)
                pictures = {"before": photo.pixels, "after": restored} if previews else {}
                shown = {side: _preview(folder, side, p) for side, p in pictures.items()}
        except UserError as error:  # hide the folders of the server
            message = str(error).replace(str(path), path.name)
            message = message.replace(self._weights[options.weights], options.weights)
            message = message.replace(f"{uploads.folder}/", "")
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
        with self._lock:
            if (name, tlc) not in self._built:
                self._built[name, tlc] = self._build(self._weights[name], tlc)
            return self._built[name, tlc]


def _restore(restorer: Restorer, options: Options, pixels: Pixels) -> Pixels:
    """Restore an image (H, W, 3) or a batch (B, H, W, 3)."""
    restorer.self_ensemble, restorer.strength = options.self_ensemble, options.strength
    return restorer(pixels)


def _batch_size(restorer: Restorer, area: int) -> int:
    """Return the maximum number of images of ``area`` pixels in a batch."""
    if restorer.runtime != "torch" or area == 0:  # an exported network restores single images
        return 1
    most = _MAX_PIXELS_ON_CPU if restorer.device.type == "cpu" else _MAX_PIXELS
    return max(min(most // area, _MAX_IMAGES), 1)


def _preview(folder: Path, side: str, pixels: Pixels) -> Path:
    """Write a preview with 8 bits and sides of at most 1600 pixels, and return its path."""
    image = Image.fromarray(round_to_8_bits(pixels))
    image.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
    image.save(file := folder / f"preview-{side}.png", compress_level=1)
    return file
