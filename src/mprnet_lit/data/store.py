"""The prepared store: decoded images as ``.npy`` files, which are read through memory maps.

A crop then costs the reading of its own pixels, and no decoding. A store is a folder with a file
for each image and an ``index.json`` that names them, their sources and their checksums. The index
is written last: a folder without one is unfinished, and ``progress.jsonl`` tells what is done.
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
from mprnet_lit.utils.atomic import require_regular, write_whole
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError

FORMAT = 1
INDEX, PROGRESS = "index.json", "progress.jsonl"
SUFFIX = ".npy"
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
_IN_STORE = re.compile(rf"(train|val)/[0-9a-f]{{24}}{re.escape(SUFFIX)}")


@dataclass(frozen=True)
class Stored:
    """A file of the store, and the image that it was made of.

    Attributes:
        file: its path in the store.
        size: its bytes.
        sha256: of its content.
        source: the image's path.
        source_size: the image's bytes.
        source_mtime: when the image was last changed, in nanoseconds.
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
            raise ValueError(f"{self.file!r} is no file of a store")

    def is_current(self, folder: Path) -> bool:
        """Tell whether the file is there, and its source as it was (or gone)."""
        path, source = folder / self.file, Path(self.source)
        if not (path.is_file() and path.stat().st_size == self.size):
            return False
        if not source.is_file():
            return True
        status = source.stat()
        return (status.st_size, status.st_mtime_ns) == (self.source_size, self.source_mtime)

    def is_whole(self, folder: Path) -> bool:
        """Tell whether the file's content is what was written."""
        path = folder / self.file
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


@dataclass(frozen=True)
class Entry:
    """A sample of the store: a target image, and its degraded version unless there is none."""

    name: str
    height: int
    width: int
    target: Stored
    degraded: Stored | None

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Read and check an entry of an index.

        Raises:
            KeyError, TypeError, ValueError: it is damaged.
        """
        sides = {
            side: None if record[side] is None else Stored(**record[side])
            for side in ("target", "degraded")
        }
        name, height, width = record["name"], record["height"], record["width"]
        if not (isinstance(name, str) and isinstance(height, int) and isinstance(width, int)):
            raise TypeError
        if sides["target"] is None:
            raise TypeError
        return cls(name, height, width, sides["target"], sides["degraded"])


Index = dict[Split, list[Entry]]


def file_of(split: Split, source: Path) -> str:
    """Return where an image lies in the store: by its path, so that it stays if others come."""
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()
    return f"{split}/{digest[:24]}{SUFFIX}"


def store(pixels: Pixels, source: Path, status: os.stat_result, file: str, folder: Path) -> Stored:
    """Write the pixels of an image into the store atomically.

    Args:
        pixels: (H, W, 3).
        source: the image's path.
        status: of the image, from before it was read: if it changes meanwhile, that is noticed.
        file: its path in the store.
        folder: the store.

    Raises:
        UserError: the file can't be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    content = buffer.getbuffer()
    write_whole(folder / file, content)
    digest = hashlib.sha256(content).hexdigest()
    return Stored(
        file, len(content), digest, str(source.resolve()), status.st_size, status.st_mtime_ns
    )


def open_pixels(path: Path) -> Pixels:
    """Map a stored image: (H, W, 3), read-only; only the pixels that are used are read.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        require_regular(path)
        pixels: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing from the store: {_AGAIN}") from error
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror or error})") from error
    except Exception as error:  # numpy fails in many ways at a damaged header
        raise UserError(f"{path} is damaged: {_AGAIN}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} is no image of a store: {_AGAIN}")
    return pixels


_AGAIN = "run mode=prepare again"


def begin(folder: Path, done: dict[str, Stored]) -> None:
    """Note the files that are done and remove the index, so that no half-changed store is used."""
    lines = "".join(json.dumps(asdict(stored)) + "\n" for stored in done.values())
    write_whole(folder / PROGRESS, lines.encode())
    (folder / INDEX).unlink(missing_ok=True)


def note(stored: Stored, folder: Path) -> None:
    """Note that a file is done.

    Raises:
        UserError: the note can't be written.
    """
    try:
        with (folder / PROGRESS).open("a") as notes:
            notes.write(json.dumps(asdict(stored)) + "\n")
    except OSError as error:
        raise UserError(
            f"can't write {folder / PROGRESS}: {error.strerror or error}; make room there"
        ) from error


def finish(folder: Path, index: Index) -> int:
    """Write a store's index atomically, and delete the files that it does not name.

    Returns:
        the number of images that were deleted: their sources are no longer in the data set.
    """
    entries = {split: [asdict(entry) for entry in index[split]] for split in SPLITS}
    content = json.dumps({"format": FORMAT} | entries, indent=1) + "\n"
    write_whole(folder / INDEX, content.encode())
    (folder / PROGRESS).unlink(missing_ok=True)
    named = {stored.file for stored in stored_in(index)}
    left = [file for file in _files(folder) if file not in named]
    for file in left:
        (folder / file).unlink()
    return len(left)


def _files(folder: Path) -> list[str]:
    """Return the images that lie in a store."""
    found = (f"{split}/{p.name}" for split in SPLITS for p in (folder / split).glob(f"*{SUFFIX}"))
    return [file for file in found if _IN_STORE.fullmatch(file)]


def read_index(folder: Path) -> Index:
    """Read and check a store's index.

    Raises:
        UserError: it is missing, damaged, of another format, or names files outside of the store.
    """
    path = folder / INDEX
    if not path.is_file():
        begun = (folder / PROGRESS).exists()
        what = "is not finished" if begun else f"is not a prepared store (it has no {INDEX})"
        raise UserError(f"{folder} {what}: run mode=prepare with output={folder}")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["format"] == FORMAT:
            return {split: [Entry.of(record) for record in content[split]] for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: delete it and {_AGAIN}") from error
    raise UserError(
        f"{path} has format {content['format']}, this version reads {FORMAT}: {_AGAIN} into "
        "another folder"
    )


def stored_in(index: Index) -> Iterator[Stored]:
    """Return the files that an index names."""
    for split in SPLITS:
        for entry in index[split]:
            yield entry.target
            if entry.degraded is not None:
                yield entry.degraded


def done_before(folder: Path) -> dict[str, Stored]:
    """Return by file what an earlier run has stored, whose sources have not changed since.

    Raises:
        UserError: the index is damaged, or a folder of the store is a link, which would have files
            elsewhere overwritten and deleted.
    """
    for split in SPLITS:
        if (folder / split).is_symlink():
            raise UserError(f"{folder / split} is a link: remove it or choose another output")
    found: list[Stored] = []
    if (folder / INDEX).is_file():
        found += stored_in(read_index(folder))
    if (folder / PROGRESS).is_file():
        for line in (folder / PROGRESS).read_text(errors="replace").splitlines():
            try:
                found.append(Stored(**json.loads(line)))
            except (
                ValueError,
                TypeError,
                RecursionError,
            ):  # the last one, if the process was killed
                continue
    return {stored.file: stored for stored in found if stored.is_current(folder)}


@dataclass(frozen=True)
class Prepared:
    """A split of a store that ``mode=prepare`` made.

    Args:
        folder: the store.
        split: ``train`` or ``val``.
    """

    folder: str | Path
    split: Split

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the split's samples, in the order that they had unprepared."""
        require("folder", self.folder, (str, Path), "the name of a folder")
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
