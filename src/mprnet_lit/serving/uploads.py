"""The folder of uploads and results, bounded in bytes and in age."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mprnet_lit.utils.errors import UserError

_LEAST = 65536
"""Bytes that a file counts for at least, so that their number is bounded, too."""


class Uploads:
    """Counts what lies in a folder and what is about to, and deletes what is old.

    Args:
        folder: directory of uploads and results; nothing else lies in it.
        megabytes: bound on their sum, in MB.
        minutes: age at which a file is deleted.
    """

    def __init__(self, folder: Path, megabytes: float, minutes: float) -> None:
        self.folder = folder
        self._bytes, self._seconds = megabytes * 1e6, minutes * 60
        self._reserved = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, size: float) -> Iterator[None]:
        """Hold ``size`` bytes free for a file that is being written.

        Raises:
            UserError: the folder is full.
        """
        with self._lock:
            self.expire()
            if self._held() + self._reserved + size > self._bytes:
                raise UserError(
                    "there is no room for another photo at the moment: older ones are deleted "
                    f"after {self._seconds / 60:g} minutes; try again later, or ask whoever runs "
                    "this page for a larger max_total_mb"
                )
            self._reserved += size
        try:
            yield
        finally:
            with self._lock:
                self._reserved -= size

    def expire(self) -> None:
        """Delete the files that are too old, and folders that are then empty."""
        before = time.time() - self._seconds
        for path in self._files():
            with suppress(OSError):  # another thread was first
                if path.stat().st_mtime < before:
                    path.unlink()
                    if path.parent != self.folder:
                        path.parent.rmdir()

    def _held(self) -> float:
        total = 0
        for path in self._files():
            with suppress(OSError):
                total += max(path.stat().st_size, _LEAST)
        return total

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if not path.is_dir()]
