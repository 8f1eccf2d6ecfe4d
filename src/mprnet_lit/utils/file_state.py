"""Detection of changed files: size, modification time and digest; cached real paths."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """Return a digest of the content of a file: the first 32 hexadecimal digits of SHA-256."""
    return sha256(path)[:32]


@dataclass(frozen=True, slots=True)
class FileState:
    """Size, times and digest of a file.

    Attributes:
        size: size in bytes.
        modified: modification time (``st_mtime_ns``) in nanoseconds.
        changed: status change time (``st_ctime_ns``) in nanoseconds; 0 to ignore it, for example
            for a file that is renamed later.
        digest: digest of the content, as in :func:`file_digest`.
    """

    size: int
    modified: int
    changed: int
    digest: str

    @classmethod
    def of(cls, path: Path, *, with_changed: bool = False) -> Self:
        """Return the current state of a file; ``with_changed`` adds the status change time."""
        status = path.stat()  # before reading, so that a change during reading is detected later
        changed = status.st_ctime_ns if with_changed else 0
        return cls(status.st_size, status.st_mtime_ns, changed, file_digest(path))

    def is_untouched(self, path: Path) -> bool:
        """Return whether the size and the times are unchanged, without reading the file."""
        try:
            status = path.stat()
        except OSError:
            return False
        times = status.st_mtime_ns, status.st_ctime_ns if self.changed else 0
        return (status.st_size, *times) == (self.size, self.modified, self.changed)

    def matches(self, path: Path) -> bool:
        """Return whether the content is unchanged. The file is read only if its times differ."""
        if self.is_untouched(path):
            return True
        try:
            return path.stat().st_size == self.size and file_digest(path) == self.digest
        except OSError:
            return False


class RealPathCache:
    """Resolves symbolic links in paths, with a cache of the folders.

    A broken link is resolved to its missing target. The cache contains strings, because ``Path``
    objects would be slow for 100,000 paths.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: Path) -> str:
        """Return the path without symbolic links."""
        folder, name = os.path.split(path)  # keeps the separator of a root, such as that of C:\\
        if path.name != name or name == "..":  # ``.``, or a path that ends in ``..``
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder or ".")
        real = os.path.join(self._folders[folder], name)  # noqa: PTH118  # Path would be slow
        return os.path.realpath(real) if path.is_symlink() else real
