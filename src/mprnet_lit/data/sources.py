"""Sources of images (folders of pairs or clean images, photographs) and the validation split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import skimage

from mprnet_lit.data.manifest import Check
from mprnet_lit.data.pairing import OnError, find_images, find_pairs, matches
from mprnet_lit.data.samples import Sample, SampleList
from mprnet_lit.images.listing import is_image
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.mirror import fetch

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


class Source(Protocol):
    """Interface of a source of samples."""

    def samples(self, on_error: OnError) -> Sequence[Sample]:
        """Return the samples in an order that depends only on their names.

        Args:
            on_error: ``raise`` to report all problems in one error, or ``skip`` to skip faulty
                files with a warning.

        Raises:
            UserError: a folder is missing or has no images, or a file is faulty.
        """


@dataclass(frozen=True)
class Photos:
    """Color photographs that scikit-image includes, so that no download is needed.

    Args:
        split: ``train`` (5 photographs) or ``val`` (3 photographs of other scenes).
    """

    split: Literal["train", "val"]

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the photographs of the split as targets.

        Raises:
            UserError: ``split`` is not ``train`` or ``val``.
        """
        if self.split not in _PHOTOS:
            raise UserError(f"split={self.split} must be one of {', '.join(_PHOTOS)}")
        folder = Path(skimage.__file__).parent / "data"
        paths = [folder / file for file in _PHOTOS[self.split]]
        return [Sample(path.stem, path, None, *probe_image(path)) for path in paths]


@dataclass(frozen=True)
class CleanFolder:
    """Folder of clean images that are degraded on the fly.

    Args:
        folder: folder that is searched recursively, or its URL; ``None`` for no images.
        pattern: glob of the images, relative to ``folder`` and without the file name suffix.
    """

    folder: str | Path | None
    pattern: str = "**/*"

    def samples(self, on_error: OnError, check: Check = "headers") -> SampleList:
        """Return the images as targets.

        The images of a URL are downloaded into a cache first; see ``docs/data.md``. ``check`` is
        that of :class:`mprnet_lit.data.manifest.Manifest`.

        Raises:
            UserError: the folder is missing, has no matching image, can't be downloaded, or (with
                ``on_error="raise"``) has unreadable or ambiguous files.
        """
        if self.folder is None:
            return SampleList()
        require("folder", self.folder, (str, Path), "the path of a folder")
        return find_images(_local(self.folder, self.pattern), self.pattern, on_error, check)


@dataclass(frozen=True)
class PairedFolders:
    """Folders of degraded images and their targets, paired by name.

    Two files are a pair if the wildcards of their patterns match the same text.

    Args:
        degraded: folder of the degraded images, or its URL; ``None`` for no images.
        target: folder of the targets, or its URL, possibly the same as ``degraded``; ``None`` for
            no images.
        degraded_pattern: glob of the degraded images, relative to ``degraded`` and without the
            file name suffix.
        target_pattern: glob of the targets, relative to ``target`` and without the file name
            suffix.
    """

    degraded: str | Path | None
    target: str | Path | None
    degraded_pattern: str = "**/*"
    target_pattern: str = "**/*"

    def samples(self, on_error: OnError, check: Check = "headers") -> SampleList:
        """Return the pairs.

        The images of a URL are downloaded into a cache first; see ``docs/data.md``. ``check`` is
        that of :class:`mprnet_lit.data.manifest.Manifest`.

        Raises:
            UserError: a folder is missing, has no matching image or can't be downloaded, or (with
                ``on_error="raise"``) a file has no partner, can't be read, is ambiguous, or differs
                in size from its target.
        """
        if self.degraded is None or self.target is None:
            return SampleList()
        for name, folder in (("degraded", self.degraded), ("target", self.target)):
            require(name, folder, (str, Path), "the path of a folder")
        degraded = _local(self.degraded, self.degraded_pattern)
        target = _local(self.target, self.target_pattern)
        patterns = self.degraded_pattern, self.target_pattern
        return find_pairs(degraded, target, *patterns, on_error, check)


def _local(folder: str | Path, pattern: str) -> Path:
    """Return a local folder with the images of a folder or URL that match a pattern."""
    return fetch(folder, is_image, lambda name: matches(name, pattern))
