"""Where images come from: pairs of folders, a folder of clean images, embedded photographs."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import skimage

from mprnet_lit.data.pairing import CleanImages, OnError, Pairs, find_images, find_pairs
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import printable

log = logging.getLogger(__name__)

_PHOTOS = {
    "train": (
        "astronaut.png",
        "hubble_deep_field.jpg",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
    ),
    "val": ("chelsea.png", "coffee.png", "rocket.jpg"),
}


@dataclass(frozen=True)
class Sample:
    """A target image, and its degraded version unless that is made on the fly."""

    name: str
    target: Path
    degraded: Path | None
    height: int
    width: int


class Source(Protocol):
    """A list of samples."""

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the samples, in an order that depends only on their names.

        Args:
            on_error: ``raise`` on bad files, or ``skip`` them and say so.

        Raises:
            UserError: something is wrong with the files.
        """


@dataclass(frozen=True)
class Photos:
    """Colour photographs that scikit-image ships inside its wheel, so that nothing is downloaded.

    The ``train`` and ``val`` splits show different scenes.
    """

    split: Literal["train", "val"]

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the split's photographs as targets."""
        if self.split not in _PHOTOS:
            raise UserError(f"split={self.split} must be one of {', '.join(_PHOTOS)}")
        folder = Path(skimage.__file__).parent / "data"
        paths = [folder / file for file in _PHOTOS[self.split]]
        return [Sample(path.stem, path, None, *probe_image(path)) for path in paths]


@dataclass(frozen=True)
class CleanFolder:
    """A folder of clean images, degraded on the fly; ``None`` for no folder.

    Args:
        folder: searched with its subfolders.
        pattern: glob, relative to the folder, without the file's suffix.
    """

    folder: str | Path | None
    pattern: str = "**/*"

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the images as targets."""
        if self.folder is None:
            return []
        require("folder", self.folder, (str, Path), "the name of a folder")
        found = find_images(Path(self.folder), self.pattern, on_error)
        _report(found)
        return [Sample(i.name, i.path, None, i.height, i.width) for i in found.images]


@dataclass(frozen=True)
class PairedFolders:
    """Degraded images and their targets, matched by name; ``None`` for no folders.

    Args:
        degraded: folder of the degraded images.
        target: folder of the targets; may be the same one.
        degraded_pattern: glob, relative to the folder, without the file's suffix. Two files are a
            pair if the wildcards of their patterns match the same text.
        target_pattern: likewise for the targets.
    """

    degraded: str | Path | None
    target: str | Path | None
    degraded_pattern: str = "**/*"
    target_pattern: str = "**/*"

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the pairs."""
        if self.degraded is None or self.target is None:
            return []
        for name, folder in (("degraded", self.degraded), ("target", self.target)):
            require(name, folder, (str, Path), "the name of a folder")
        found = find_pairs(
            Path(self.degraded),
            Path(self.target),
            self.degraded_pattern,
            self.target_pattern,
            on_error,
        )
        _report(found)
        return [Sample(p.name, p.target, p.degraded, p.height, p.width) for p in found.pairs]


def _report(found: Pairs | CleanImages) -> None:
    for line in found.left_out:
        log.warning("Left out: %s", printable(line))
    for line in found.skipped:
        log.warning("%s", printable(line))
