"""The prepared store: decoded images as ``.npy`` files, which are read through memory maps.

A crop then costs the reading of its own pixels, and no decoding. A store is a folder with a file
for each image and an ``index.json`` that names them, their sources and their checksums. The index
is written last: a folder without one is unfinished, and ``progress.jsonl`` tells what is done.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.images import Pixels
from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.sources import Sample
from mprnet_lit.errors import UserError
from mprnet_lit.files import write_whole

FORMAT = 1
INDEX, PROGRESS = "index.json", "progress.jsonl"
SUFFIX = ".npy"
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


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


def file_of(split: Split, source: Path) -> str:
    """Return where an image lies in the store: by its path, so that it stays if others come."""
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()
    return f"{split}/{digest[:24]}{SUFFIX}"


def store(pixels: Pixels, source: Path, file: str, folder: Path) -> Stored:
    """Write the pixels of an image into the store, whole or not at all.

    Raises:
        UserError: the file can't be written.
    """
    status = source.stat()
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
        pixels: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing from the store: {_AGAIN}") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged: {_AGAIN}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} is no image of a store: {_AGAIN}")
    return pixels


_AGAIN = "run mode=prepare again"


def write_index(folder: Path, samples: dict[Split, list[Sample]], done: dict[str, Stored]) -> None:
    """Finish a store: write its index, whole or not at all, and drop the notes of progress."""

    def entry(split: Split, sample: Sample) -> dict[str, Any]:
        sides = {"target": sample.target, "degraded": sample.degraded}
        return {"name": sample.name, "height": sample.height, "width": sample.width} | {
            side: None if path is None else asdict(done[file_of(split, path)])
            for side, path in sides.items()
        }

    index = {split: [entry(split, sample) for sample in samples[split]] for split in SPLITS}
    content = json.dumps({"format": FORMAT} | index, indent=1) + "\n"
    write_whole(folder / INDEX, content.encode())
    (folder / PROGRESS).unlink(missing_ok=True)


def read_index(folder: Path) -> dict[str, Any]:
    """Read and check a store's index.

    Raises:
        UserError: it is missing, of another format, or names files outside of the store.
    """
    path = folder / INDEX
    if not path.is_file():
        begun = (folder / PROGRESS).exists()
        what = "is not finished" if begun else f"is not a prepared store (it has no {INDEX})"
        raise UserError(f"{folder} {what}: run mode=prepare with output={folder}")
    try:
        index: dict[str, Any] = json.loads(path.read_text())
        if index["format"] != FORMAT:
            raise UserError(
                f"{path} has format {index['format']}, this version reads {FORMAT}: {_AGAIN} into "
                "another folder"
            )
        for stored in stored_in(index):
            inside = PurePosixPath(stored.file)
            if inside.is_absolute() or ".." in inside.parts or inside.suffix != SUFFIX:
                raise UserError(f"{path} names a file outside of its folder, {stored.file}")
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: delete it and {_AGAIN}") from error
    return index


def stored_in(index: dict[str, Any]) -> Iterator[Stored]:
    """Return what an index names."""
    for split in SPLITS:
        for entry in index[split]:
            for side in ("target", "degraded"):
                if entry[side] is not None:
                    yield Stored(**entry[side])


def done_before(folder: Path) -> dict[str, Stored]:
    """Return by file what an earlier run has stored, whose sources have not changed since."""
    found: list[Stored] = []
    if (folder / INDEX).is_file():
        found += stored_in(read_index(folder))
    if (folder / PROGRESS).is_file():
        for line in (folder / PROGRESS).read_text().splitlines():
            try:
                found.append(Stored(**json.loads(line)))
            except (ValueError, TypeError):  # the last one, if the process was killed
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
        folder = Path(self.folder)

        def path(stored: dict[str, Any] | None) -> Path | None:
            return None if stored is None else folder / stored["file"]

        return [
            Sample(
                e["name"],
                folder / e["target"]["file"],
                path(e["degraded"]),
                e["height"],
                e["width"],
            )
            for e in read_index(folder)[self.split]
        ]
