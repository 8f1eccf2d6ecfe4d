"""Prepared store: decoded images as ``.npy`` files that are memory-mapped.

A crop then reads only its own pixels and decodes nothing. A store is a folder with one file per
image and an ``index.json`` that lists the files, their source images and their checksums. The
index is written last: a folder without an index is incomplete, and ``progress.jsonl`` lists its
complete files.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.sources import Sample
from mprnet_lit.images.reading import Pixels
from mprnet_lit.utils.atomic import require_regular_file, write_atomic
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError

FORMAT = 1
INDEX, PROGRESS = "index.json", "progress.jsonl"
SUFFIX = ".npy"
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
_IN_STORE = re.compile(rf"(train|val)/[0-9a-f]{{24}}{re.escape(SUFFIX)}")


@dataclass(frozen=True)
class StoredImage:
    """A file of the store and its source image.

    Attributes:
        file: path of the file, relative to the store.
        size: size of the file in bytes.
        sha256: SHA-256 digest of the file.
        source: path of the source image.
        source_size: size of the source image in bytes.
        source_mtime: modification time of the source image in nanoseconds.
    """

    file: str
    size: int
    sha256: str
    source: str
    source_size: int
    source_mtime: int

    def __post_init__(self) -> None:
        known = all(isinstance(getattr(self, f.name), f.type) for f in fields(self))  # type: ignore[arg-type]
        if not known or not _IN_STORE.fullmatch(self.file) or "\0" in self.source:
            raise ValueError(f"{self.file!r} is not the name of a file in a store")

    def is_current(self, folder: Path) -> bool:
        """Return whether the file exists and its source is unchanged (or was deleted)."""
        path, source = folder / self.file, Path(self.source)
        if not (path.is_file() and path.stat().st_size == self.size):
            return False
        if not source.is_file():
            return True
        status = source.stat()
        return (status.st_size, status.st_mtime_ns) == (self.source_size, self.source_mtime)

    def is_intact(self, folder: Path) -> bool:
        """Return whether the file has the recorded checksum."""
        path = folder / self.file
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


@dataclass(frozen=True)
class Entry:
    """A sample of the store.

    Attributes:
        name: name of the sample.
        height: height in pixels.
        width: width in pixels.
        target: target image.
        degraded: degraded image; ``None`` to degrade the target on the fly.
    """

    name: str
    height: int
    width: int
    target: StoredImage
    degraded: StoredImage | None

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Parse and check an entry of an index.

        Raises:
            KeyError, TypeError, ValueError: the entry is damaged.
        """
        sides = {
            side: None if record[side] is None else StoredImage(**record[side])
            for side in ("target", "degraded")
        }
        name, height, width = record["name"], record["height"], record["width"]
        if not (isinstance(name, str) and isinstance(height, int) and isinstance(width, int)):
            raise TypeError
        if sides["target"] is None:
            raise TypeError
        return cls(name, height, width, sides["target"], sides["degraded"])


Index = dict[Split, list[Entry]]


def file_name(split: Split, source: Path) -> str:
    """Return the file of an image, relative to the store: a digest of the path of the image."""
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()
    return f"{split}/{digest[:24]}{SUFFIX}"


def store_image(
    pixels: Pixels, source: Path, status: os.stat_result, file: str, folder: Path
) -> StoredImage:
    """Write the pixels of an image into the store atomically.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        source: path of the source image.
        status: status of the source image before it was read, so that a later change is detected.
        file: path of the new file, relative to the store.
        folder: folder of the store.

    Raises:
        UserError: the file can't be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    content = buffer.getbuffer()
    write_atomic(folder / file, content)
    digest = hashlib.sha256(content).hexdigest()
    return StoredImage(
        file, len(content), digest, str(source.resolve()), status.st_size, status.st_mtime_ns
    )


def open_pixels(path: Path) -> Pixels:
    """Memory-map a stored image: (H, W, 3) uint8 or uint16, read-only.

    Raises:
        UserError: the file is missing, damaged, or not an image of a store.
    """
    try:
        require_regular_file(path)
        pixels: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing from the store: {_AGAIN}") from error
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror or error})") from error
    except Exception as error:  # NumPy raises many types for a damaged header
        raise UserError(f"{path} is damaged: {_AGAIN}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} is not an image of a store: {_AGAIN}")
    return pixels


_AGAIN = "run mode=prepare again"


def start_progress(folder: Path, complete: dict[str, StoredImage]) -> None:
    """Write the progress file and remove the index, so that an incomplete store is not used.

    Args:
        folder: folder of the store.
        complete: files that need no work, by their path in the store.
    """
    lines = "".join(json.dumps(asdict(stored)) + "\n" for stored in complete.values())
    write_atomic(folder / PROGRESS, lines.encode())
    (folder / INDEX).unlink(missing_ok=True)


def append_progress(stored: StoredImage, folder: Path) -> None:
    """Append a complete file to the progress file.

    Raises:
        UserError: the progress file can't be written.
    """
    try:
        with (folder / PROGRESS).open("a") as progress:
            progress.write(json.dumps(asdict(stored)) + "\n")
    except OSError as error:
        raise UserError(
            f"can't write {folder / PROGRESS}: {error.strerror or error}; free space on the disk"
        ) from error


def write_index(folder: Path, index: Index) -> int:
    """Write the index of a store atomically, and delete the images that it does not list.

    Returns:
        Number of deleted images, whose sources are no longer in the data set.
    """
    entries = {split: [asdict(entry) for entry in index[split]] for split in SPLITS}
    content = json.dumps({"format": FORMAT} | entries, indent=1) + "\n"
    write_atomic(folder / INDEX, content.encode())
    (folder / PROGRESS).unlink(missing_ok=True)
    listed = {stored.file for stored in stored_images(index)}
    stale = [file for file in _files(folder) if file not in listed]
    for file in stale:
        (folder / file).unlink()
    return len(stale)


def _files(folder: Path) -> list[str]:
    """Return the image files in a store, as paths relative to the store."""
    found = (f"{split}/{p.name}" for split in SPLITS for p in (folder / split).glob(f"*{SUFFIX}"))
    return [file for file in found if _IN_STORE.fullmatch(file)]


def read_index(folder: Path) -> Index:
    """Read and check the index of a store.

    Raises:
        UserError: the index is missing, damaged, has another format version, or lists files
            outside of the store.
    """
    path = folder / INDEX
    if not path.is_file():
        incomplete = (folder / PROGRESS).exists()
        state = "is incomplete" if incomplete else f"is not a prepared store (it has no {INDEX})"
        raise UserError(f"{folder} {state}: run mode=prepare with output={folder}")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["format"] == FORMAT:
            return {split: [Entry.of(record) for record in content[split]] for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: delete it and {_AGAIN}") from error
    raise UserError(
        f"{path} has format {content['format']}, but this version reads format {FORMAT}: {_AGAIN} "
        "with another output folder"
    )


def stored_images(index: Index) -> Iterator[StoredImage]:
    """Yield all images of an index."""
    for split in SPLITS:
        for entry in index[split]:
            yield entry.target
            if entry.degraded is not None:
                yield entry.degraded


def completed_images(folder: Path) -> dict[str, StoredImage]:
    """Return the images of an earlier run whose sources are unchanged, by their path in the store.

    Raises:
        UserError: the index is damaged, or a folder of the store is a symbolic link (files
            elsewhere would be overwritten and deleted).
    """
    for split in SPLITS:
        if (folder / split).is_symlink():
            raise UserError(
                f"{folder / split} is a symbolic link: remove it or choose another output folder"
            )
    found: list[StoredImage] = []
    if (folder / INDEX).is_file():
        found += stored_images(read_index(folder))
    if (folder / PROGRESS).is_file():
        for line in (folder / PROGRESS).read_text(errors="replace").splitlines():
            try:
                found.append(StoredImage(**json.loads(line)))
            except (ValueError, TypeError, RecursionError):  # the last line of a killed process
                continue
    return {stored.file: stored for stored in found if stored.is_current(folder)}


@dataclass(frozen=True)
class Prepared:
    """Split of a store that ``mode=prepare`` wrote.

    Args:
        folder: folder of the store.
        split: ``train`` or ``val``.
    """

    folder: str | Path
    split: Split

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the samples of the split, in the order of the original data set.

        Raises:
            UserError: ``folder`` is not a complete store, or ``split`` is not ``train`` or ``val``.
        """
        require("folder", self.folder, (str, Path), "the path of a folder")
        if self.split not in ("train", "val"):
            raise UserError(f"split={self.split} must be train or val")
        folder = Path(self.folder)
        return [
            Sample(
                entry.name,
                folder / entry.target.file,
                None if entry.degraded is None else folder / entry.degraded.file,
                entry.height,
                entry.width,
            )
            for entry in read_index(folder)[self.split]
        ]
