"""Checking whether a file is unchanged: real paths, sizes, times, digests."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


def digest(path: Path) -> str:
    """Return a digest of a file's content.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class File:
    """State of a file.

    Attributes:
        size: its bytes.
        modified: time of the last change of its content, in nanoseconds.
        changed: time of the last change of its status, in nanoseconds; 0 if that does not count,
            as for a file that is renamed later.
        digest: digest of its content.
    """

    size: int
    modified: int
    changed: int
    digest: str

    @classmethod
    def of(cls, path: Path, *, with_changed: bool = False) -> Self:
        """Describe a file as it is now.

        Raises:
            OSError: the file can't be read.
        """
        status = path.stat()  # before the content: a change in between is then noticed later
        changed = status.st_ctime_ns if with_changed else 0
        return cls(status.st_size, status.st_mtime_ns, changed, digest(path))

    def is_untouched(self, path: Path) -> bool:
        """Return whether size and times are the same; reads no content."""
        try:
            status = path.stat()
        except OSError:
            return False
        times = status.st_mtime_ns, status.st_ctime_ns if self.changed else 0
        return (status.st_size, *times) == (self.size, self.modified, self.changed)

    def matches(self, path: Path) -> bool:
        """Return whether the content is the same; reads it only if the times differ."""
        if self.is_untouched(path):
            return True
        try:
            return path.stat().st_size == self.size and digest(path) == self.digest
        except OSError:
            return False


class RealPaths:
    """Follows the links in paths; asks for each folder once. Links that lead nowhere are kept.

    Works on strings, which is what makes 100,000 paths cheap.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: Path) -> str:
        """Return the real path."""
        folder, _, name = str(path).rpartition(os.sep)
        if path.name != name or name == "..":  # a root, or the parent of the working directory
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder or (os.sep if path.root else "."))
        real = f"{self._folders[folder].rstrip(os.sep)}{os.sep}{name}"
        return os.path.realpath(real) if path.is_symlink() else real
