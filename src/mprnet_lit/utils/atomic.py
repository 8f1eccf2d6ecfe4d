"""Atomic file writes, and checks for regular files."""

import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, EISDIR, ENOSPC, EROFS
from pathlib import Path
from typing import BinaryIO

from mprnet_lit.utils.cache import CACHE, cache_folder
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.locks import lock_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.mprnet_lit-[0-9a-f]{16}\.parts?")
"""Names of temporary files (``.part``) and temporary folders (``.parts``)."""
_ADVICE = "free disk space or choose a writable folder"
_DISK_FULL = {ENOSPC, EDQUOT, EFBIG, EROFS}
"""Error numbers of a disk without space for a file, which networks do not raise."""


def require_regular_file(path: Path, max_bytes: float | None = None) -> None:
    """Check that a path is not a pipe or device, and that a file is not too large.

    Reading a pipe or device might never end. A missing path and a folder pass the check.

    Raises:
        UserError: ``path`` is a pipe, a device or a file of more than ``max_bytes`` bytes.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is a pipe or a device: remove it or choose a regular file")
    if max_bytes is not None and path.is_file() and path.stat().st_size > max_bytes:
        raise UserError(
            f"{path} is larger than the limit of {max_bytes / 1e9:.1f} GB: check the path, or "
            "remove the file"
        )


@contextmanager
def write_errors(
    path: Path, what: str = "", advice: str = _ADVICE, *, mixed: bool = False
) -> Iterator[None]:
    """Convert an OSError in the block to a UserError.

    The message names the cache instead of a file in it, because a message about such a file names
    the address of the file.

    Args:
        path: path of the output file or folder.
        what: kind of file for the error message, or ``into`` for a folder.
        advice: remedy for the error message.
        mixed: whether the block also reads from a network, whose errors are not converted.
    """
    try:
        yield
    except OSError as error:
        if mixed and not is_disk_error(error, path):
            raise
        if _is_inside(path, cache_folder()):
            path, what = cache_folder(), "into"
            advice = f"free disk space or set {CACHE} to a writable folder"
        name = f"{what} {path}".strip()
        raise UserError(f"can't write {name}: {error.strerror or error}; {advice}") from error


def is_disk_error(error: OSError, path: Path) -> bool:
    """Return whether the disk of a file or folder, not the network, caused an error."""
    name = error.filename
    if isinstance(name, str | Path) and (_is_inside(name, path) or _is_inside(path, name)):
        return True
    return error.errno in _DISK_FULL


def _is_inside(path: str | Path, folder: str | Path) -> bool:
    """Return whether a path is a folder or below the folder."""
    return Path(path).is_relative_to(folder)


def write_atomic(
    path: Path, content: bytes | memoryview, what: str = "", advice: str = _ADVICE
) -> None:
    """Write a file atomically: a reader sees the previous or the new content, never a part.

    The other arguments and the errors are those of :func:`atomic_writer`.
    """
    with atomic_writer(path, what, advice) as file, write_errors(path, what, advice):
        file.write(content)


@contextmanager
def atomic_writer(path: Path, what: str = "", advice: str = _ADVICE) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces ``path`` at the end of the block.

    The temporary file (its path is ``file.name``) is open for reading and writing. It is in the
    same folder and has a unique, hidden name of 33 characters, so that concurrent writers do not
    conflict. An exception in the block deletes the temporary file. If the process is killed, the
    next process that writes to the folder deletes the temporary file (not on Windows). The new file
    has the permissions of the previous file.

    Args:
        path: path of the file. Missing parent folders are created. A symbolic link is replaced,
            not followed.
        what: kind of file, for the error message.
        advice: remedy, for the error message.

    Raises:
        UserError: the file can't be written. The previous file is unchanged.
    """
    with write_errors(path, what, advice):
        _require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        file = _temporary(path.parent)
    temporary = Path(file.name)
    try:
        yield file
        with write_errors(path, what, advice):
            file.flush()
            os.fsync(file.fileno())  # else a power failure may leave an empty file
            copy_permissions(temporary, path)
            if fcntl is None:  # Windows can't rename an open file
                file.close()
            temporary.replace(path)
    finally:
        with suppress(OSError):  # on a full disk, closing raises the error again
            file.close()
        with suppress(OSError):  # missing after a successful rename
            temporary.unlink()


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield a temporary, hidden folder for unfinished files.

    The hidden folder is in ``folder``, or in its nearest existing parent, so that files can be
    renamed from it into ``folder``. Error messages name ``folder`` instead of the hidden folder. If
    the process is killed, the next process that writes to the parent deletes the hidden folder
    (not on Windows).

    Raises:
        UserError: the hidden folder can't be created.
    """
    parents = (folder.absolute(), *folder.absolute().parents)
    parent = next(path for path in parents if path.exists())
    with write_errors(folder, "into"):
        remove_leftovers(parent)
        hidden, lock = _temporary_folder(parent)
    try:
        yield hidden
    except UserError as error:
        raise UserError(str(error).replace(str(hidden), str(folder))) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def copy_permissions(new: Path, old: Path) -> None:
    """Copy the permissions of the previous file, if it exists, to the new file."""
    with suppress(OSError):  # not supported by some file systems
        mode = old.lstat().st_mode
        if stat.S_ISREG(mode):
            new.chmod(mode & 0o777)


def _require_replaceable(path: Path) -> None:
    """Raise OSError or UserError unless a path is a regular file, a symbolic link or missing."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISLNK(mode):
        require_regular_file(path)


def _temporary(folder: Path) -> BinaryIO:
    """Create an empty, locked file; the lock prevents other processes from deleting the file."""
    while True:
        file = (folder / f".mprnet_lit-{secrets.token_hex(8)}.part").open("x+b")
        lock_file(file.fileno())
        if Path(file.name).exists():  # else deleted by another process before the lock
            return file
        file.close()


def _temporary_folder(folder: Path) -> tuple[Path, int | None]:
    """Create an empty, locked folder; return the folder and the file descriptor of the lock."""
    while True:
        hidden = folder / temporary_folder_name(secrets.token_hex(8))
        hidden.mkdir()
        if fcntl is None:
            return hidden, None
        lock = os.open(hidden, os.O_RDONLY)
        lock_file(lock)
        if hidden.exists():
            return hidden, lock
        os.close(lock)


_cleaned: set[Path] = set()
_cleaning = threading.Lock()


def temporary_folder_name(token: str) -> str:
    """Return the name of a temporary folder from 16 hexadecimal digits."""
    return f".mprnet_lit-{token}.parts"


def remove_leftovers(folder: Path) -> None:
    """Delete the unlocked temporary files, which killed processes left, once per folder."""
    folder = folder.absolute()
    if fcntl is None or _TEMPORARY.fullmatch(folder.name):
        return
    with _cleaning:
        if folder in _cleaned:
            return
        with suppress(OSError):  # the folder is writable, but not readable
            for path in folder.iterdir():
                if _TEMPORARY.fullmatch(path.name) and not path.is_symlink():
                    remove_unlocked(path)
        _cleaned.add(folder)


def remove_unlocked(path: Path) -> None:
    """Delete a temporary file or folder, unless a running process holds a lock on it."""
    with suppress(OSError):  # locked by a running process
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(os.fstat(lock).st_mode):
                shutil.rmtree(path)
            elif stat.S_ISREG(os.fstat(lock).st_mode):
                path.unlink()
        finally:
            os.close(lock)
