"""Folder of uploads and results with a limited size and age."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mprnet_lit.utils.errors import UserError

_LEAST = 65536
"""Smaller files count as this number of bytes, which also limits the number of files."""


class FullError(UserError):
    """Refusal of a file because the folder is full."""


class Uploads:
    """Folder that limits the total size of its files and deletes expired files.

    Args:
        folder: directory that has only uploads and results.
        megabytes: maximum total size in MB.
        minutes: age in minutes at which a file expires.
    """

    def __init__(self, folder: Path, megabytes: float, minutes: float) -> None:
        self.folder = folder
        self._bytes, self._seconds = megabytes * 1e6, minutes * 60
        self._reserved = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, size: float) -> Iterator[None]:
        """Reserve space for a file while it is written.

        Args:
            size: size of the file in bytes.

        Raises:
            FullError: the folder is full.
        """
        with self._lock:
            self.expire()
            if self._used() + self._reserved + size > self._bytes:
                raise FullError(
                    "the disk space of this page is full: photos are deleted after "
                    f"{self._seconds / 60:g} minutes; try again later, or ask the operator to "
                    "increase serve.max_total_mb"
                )
            self._reserved += size
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= size

    def expire(self) -> None:
        """Delete expired files and their folders."""
        before = time.time() - self._seconds
        for path in self._files():
            with suppress(OSError):  # another thread deleted it
                if path.stat().st_mtime < before:
                    path.unlink()
                    if path.parent != self.folder:
                        path.parent.rmdir()

    def _used(self) -> float:
        total = 0
        for path in self._files():
            with suppress(OSError):
                total += max(path.stat().st_size, _LEAST)
        return total

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if not path.is_dir()]
