"""Prepared store: decoded images in memory-mapped ``.npy`` files.

Only the pixels of a crop are read, and no file is decoded. A store is a folder with one file per
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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.progress import read_progress, refuse_links
from mprnet_lit.data.samples import Sample
from mprnet_lit.images.reading import Pixels
from mprnet_lit.utils.atomic import require_regular_file, write_atomic
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.url import refuse_url

FORMAT = 1
INDEX, PROGRESS = "index.json", "progress.jsonl"
SUFFIX = ".npy"
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
_IN_STORE = re.compile(rf"(train|val)/[0-9a-f]{{24}}{re.escape(SUFFIX)}")
_AGAIN = "run mode=prepare again"


@dataclass(frozen=True)
class StoredImage:
    """Record of a file in a store and of its source image.

    ``file`` is relative to the store. Sizes are in bytes, ``source_mtime`` is in nanoseconds.
    """

    file: str
    size: int
    sha256: str
    source: str
    source_size: int
    source_mtime: int

    def __post_init__(self) -> None:
        _check_types(self)
        if not _IN_STORE.fullmatch(self.file) or "\0" in self.source:
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
    """A sample of the store. ``degraded`` is ``None`` to degrade the target on the fly."""

    name: str
    height: int
    width: int
    target: StoredImage
    degraded: StoredImage | None

    def __post_init__(self) -> None:
        _check_types(self)


Index = dict[Split, list[Entry]]


def file_name(split: Split, source: Path) -> str:
    """Return the path of a stored image relative to the store: a digest of its source path."""
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()
    return f"{split}/{digest[:24]}{SUFFIX}"


def store_image(
    pixels: Pixels, source: Path, status: os.stat_result, file: str, folder: Path
) -> StoredImage:
    """Write the pixels of an image into ``folder / file`` atomically, and return its record.

    ``status`` is the result of ``stat`` for the source image before the image was read, so that a
    later change is detected.
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


def write_index(folder: Path, index: Index) -> int:
    """Write the index atomically, delete unlisted images, and return the number of deletions."""
    entries = {split: [asdict(entry) for entry in index[split]] for split in SPLITS}
    content = json.dumps({"format": FORMAT} | entries, indent=1) + "\n"
    write_atomic(folder / INDEX, content.encode())
    (folder / PROGRESS).unlink(missing_ok=True)
    listed = {stored.file for stored in stored_images(index)}
    files = (f"{split}/{p.name}" for split in SPLITS for p in (folder / split).glob(f"*{SUFFIX}"))
    stale = [file for file in files if _IN_STORE.fullmatch(file) and file not in listed]
    for file in stale:
        (folder / file).unlink()
    return len(stale)


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
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT:
            return {split: [_entry(record) for record in content[split]] for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: delete it and {_AGAIN}") from error
    raise UserError(
        f"{path} has format {content['format']}, but this version reads format {FORMAT}: {_AGAIN} "
        "with another output folder"
    )


def _entry(record: dict[str, Any]) -> Entry:
    """Parse an entry of an index. A damaged entry raises KeyError, TypeError or ValueError."""
    images = {
        side: None if record[side] is None else StoredImage(**record[side])
        for side in ("target", "degraded")
    }
    return Entry(**record | images)


def _check_types(record: StoredImage | Entry) -> None:
    for field in fields(record):
        if not isinstance(getattr(record, field.name), field.type):  # type: ignore[arg-type]
            raise TypeError(f"{field.name} has a wrong type")


def stored_images(index: Index) -> Iterator[StoredImage]:
    """Yield all images of an index."""
    for split in SPLITS:
        for entry in index[split]:
            yield entry.target
            if entry.degraded is not None:
                yield entry.degraded


def completed_images(folder: Path) -> dict[str, StoredImage]:
    """Return the completed images with unchanged sources, by their path in the store.

    Raises:
        UserError: the index is damaged, or a folder of the store is a symbolic link (files
            elsewhere would be overwritten and deleted).
    """
    refuse_links(folder / split for split in SPLITS)
    found = read_progress(folder / PROGRESS, StoredImage)
    if (folder / INDEX).is_file():
        found = [*stored_images(read_index(folder)), *found]
    return {stored.file: stored for stored in found if stored.is_current(folder)}


@dataclass(frozen=True)
class Prepared:
    """Split of a prepared store, which ``mode=prepare`` writes.

    Args:
        folder: folder of the store.
        split: ``train`` or ``val``.
    """

    folder: str | Path
    split: Split

    def samples(self, on_error: OnError) -> list[Sample]:
        """Return the samples of the split, in the order of the original data set.

        Raises:
            UserError: ``folder`` is a URL or not a complete store, or ``split`` is not ``train`` or
                ``val``.
        """
        require("folder", self.folder, (str, Path), "the path of a folder")
        if self.split not in SPLITS:
            raise UserError(f"split={self.split} must be train or val")
        refuse_url("folder", self.folder, "download the store, which is mapped into memory")
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
