"""Cache of decoded images that the data workers and training processes of a machine share.

The images are memory-mapped files in a temporary folder: in shared memory, or in the folder for
temporary files if shared memory is too small. The operating system holds one copy of them for all
processes. A lock per image lets only one process decode an image, and the others wait for it.
"""

import hashlib
import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from mprnet_lit.data.shared_memory import SHARED_MEMORY
from mprnet_lit.data.store import SUFFIX, open_pixels
from mprnet_lit.images.reading import Pixels, read_image
from mprnet_lit.utils.atomic import temporary_folder_name
from mprnet_lit.utils.scratch import ScratchFolder

_INDEX = "index.sqlite"
_MARGIN = 1.1
"""Free space that the folder needs, relative to the maximum size of the cache."""
_POLL_SECONDS = 0.005
_TIMEOUT_SECONDS = 60
_TABLE = "CREATE TABLE IF NOT EXISTS images (start INTEGER PRIMARY KEY, bytes INTEGER, name TEXT)"


@dataclass(frozen=True)
class SharedCache:
    """First-in-first-out cache of decoded images of at most ``limit`` bytes in total.

    The index lists each image, also while it is written, with its start: the total size of all
    images that were ever added before. The cache holds the images of the last ``limit`` bytes. An
    image that can't be written is decoded again for the next reader.

    Args:
        scratch: folder of the images and of the index.
        limit: maximum size in bytes.
    """

    scratch: ScratchFolder
    limit: int

    def read(self, path: Path) -> Pixels:
        """Return an image (H, W, 3) from the cache or the file; memory-map a stored image.

        Raises:
            UserError: the file is not a readable image.
        """
        if path.suffix == SUFFIX:
            return open_pixels(path)
        name = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
        image = self._find(name)
        if image is None:
            with self._lock(name):
                image = self._find(name)
                if image is None:
                    image = read_image(path)
                    self._add(name, image)
        return image

    def _find(self, name: str) -> Pixels | None:
        try:
            image: Pixels = np.load(self.scratch.path / f"{name}{SUFFIX}", mmap_mode="r")
        except (OSError, ValueError):  # absent, or removed while it was opened
            return None
        return image

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Hold one of 4096 locks, which is nearly always of this image alone."""
        try:
            self.scratch.path.stat()  # FileLock would create the folder after its deletion
            lock = FileLock(self.scratch.path / f"{name[:3]}.lock")
            lock.acquire(poll_interval=_POLL_SECONDS)
        except (OSError, NotImplementedError):  # locks are not supported here
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _add(self, name: str, image: Pixels) -> None:
        """Delete the oldest images to make room, and write an image."""
        if image.nbytes > self.limit:
            return
        folder = self.scratch.path
        part = folder / f"{name}-{os.getpid()}.part"
        try:
            with closing(self._open_index()) as index:
                start = self._reserve(index, name, image.nbytes)
                own = " FROM images WHERE start = ? AND name = ?"
                try:
                    with part.open("wb") as file:
                        np.save(file, image, allow_pickle=False)
                except OSError:
                    index.execute("DELETE" + own, (start, name))
                    raise
                index.execute("BEGIN IMMEDIATE")
                if index.execute("SELECT 1" + own, (start, name)).fetchone():
                    part.replace(folder / f"{name}{SUFFIX}")
                else:  # deleted meanwhile: the cache holds few images
                    part.unlink()
                index.execute("COMMIT")
        except (OSError, sqlite3.Error):  # the disk is full, or the training has ended
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _reserve(self, index: sqlite3.Connection, name: str, size: int) -> int:
        """Delete the oldest images, so that ``size`` bytes are free; return the image's start."""
        index.execute("BEGIN IMMEDIATE")
        query = "SELECT start + bytes FROM images ORDER BY start DESC LIMIT 1"
        (start,) = index.execute(query).fetchone() or (0,)
        query = "SELECT start, name FROM images WHERE start < ?"
        for old in index.execute(query, (start + size - self.limit,)).fetchall():
            with suppress(PermissionError):  # in use, on Windows: deleted later
                (self.scratch.path / f"{old[1]}{SUFFIX}").unlink(missing_ok=True)
                index.execute("DELETE FROM images WHERE start = ?", old[:1])
        index.execute("INSERT INTO images VALUES (?, ?, ?)", (start, size, name))
        index.execute("COMMIT")
        return int(start)

    def _open_index(self) -> sqlite3.Connection:
        path = self.scratch.path / _INDEX
        index = sqlite3.connect(path, timeout=_TIMEOUT_SECONDS, isolation_level=None)
        index.execute("PRAGMA synchronous = OFF")
        index.execute("PRAGMA journal_mode = MEMORY")
        index.execute(_TABLE)
        return index


def open_shared_cache(limit: int, space: int, token: str, reserved: int) -> SharedCache | None:
    """Open a cache in shared memory or, if it has too little space, among the temporary files.

    Args:
        limit: maximum size of the cache in bytes.
        space: maximum total size of the images in bytes, at most ``limit``.
        token: 16 hexadecimal digits. Processes of a machine with the same token share a cache.
        reserved: size in bytes of the batches that need shared memory too.

    Returns:
        Cache, or ``None`` if no folder has the space.
    """
    places = [(SHARED_MEMORY, reserved)]
    with suppress(FileNotFoundError):  # no temporary folder is writable
        places.append((Path(tempfile.gettempdir()), 0))
    for parent, other in places:
        with suppress(OSError):  # absent or read-only
            joined = (parent / temporary_folder_name(token)).exists()
            if joined or shutil.disk_usage(parent).free >= _MARGIN * space + other:
                return SharedCache(ScratchFolder(parent, token), limit)
    return None


def node_token(token: str) -> str:
    """Return the token of this machine, from a token of the training: 16 hexadecimal digits."""
    return hashlib.sha256(f"{token} {platform.node()}".encode()).hexdigest()[:16]
