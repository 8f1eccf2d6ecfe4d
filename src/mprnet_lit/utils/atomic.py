"""Writing files atomically, and refusing what is not a regular file."""

import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EISDIR
from pathlib import Path
from typing import BinaryIO

from mprnet_lit.utils.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.mprnet_lit-[0-9a-f]{16}\.parts?")
"""The names of temporary files, and of the folders for several."""
_ADVICE = "make room there or choose a folder that can be written"


def require_regular(path: Path, most_bytes: float | None = None) -> None:
    """Refuse pipes and devices, as reading them might never end, and files that are too large.

    Raises:
        UserError: ``path`` is a pipe, a device or a file of more than ``most_bytes``.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is a pipe or a device and not a file: remove it or name a file")
    if most_bytes is not None and path.is_file() and path.stat().st_size > most_bytes:
        raise UserError(
            f"{path} has over {most_bytes / 1e9:.1f} GB, which is too much: check the path, or "
            "remove it if it is a trap"
        )


@contextmanager
def explained(path: Path, what: str = "", advice: str = _ADVICE) -> Iterator[None]:
    """Turn an error of the file system into a sentence.

    Args:
        path: file or folder to be written.
        what: kind of file, or ``into`` for a folder.
        advice: what to do about the error.

    Raises:
        UserError: the block raises OSError.
    """
    try:
        yield
    except OSError as error:
        name = f"{what} {path}".strip()
        raise UserError(f"can't write {name}: {error.strerror or error}; {advice}") from error


def write_whole(
    path: Path, content: bytes | memoryview, what: str = "", advice: str = _ADVICE
) -> None:
    """Write a file atomically: a reader sees the earlier file or the new one, never a part.

    Args:
        path: file to write or replace; its folder is made. A link is replaced, not followed.
        content: what to write.
        what: kind of file, for the message of an error.
        advice: what to do about an error, for its message.

    Raises:
        UserError: the file can't be written; an earlier one stays as it was.
    """
    with replacing(path, what, advice) as file, explained(path, what, advice):
        file.write(content)


@contextmanager
def replacing(path: Path, what: str = "", advice: str = _ADVICE) -> Iterator[BinaryIO]:
    """Yield a new temporary file, which replaces the one at ``path`` if the block ends well.

    The temporary file (its path is ``file.name``) lies in the same folder under a unique, hidden
    name of 33 characters, so that several writers of one file do not meet. It is deleted if the
    block raises. A process that is killed leaves it behind; the next process that writes into the
    folder deletes it. The file gets the permissions of the one that it replaces.

    Args:
        path: file to write or replace; its folder is made. A link is replaced, not followed.
        what: kind of file, for the message of an error.
        advice: what to do about an error, for its message.

    Raises:
        UserError: the file can't be created or replaced; an earlier one stays as it was.
    """
    with explained(path, what, advice):
        _require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        file = _temporary(path.parent)
    temporary = Path(file.name)
    try:
        yield file
        with explained(path, what, advice):
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the new name and no content
            keep_permissions(temporary, path)
            if fcntl is None:  # Windows renames no open file
                file.close()
            temporary.replace(path)
    finally:
        with suppress(OSError):  # a full disk fails again
            file.close()
        with suppress(OSError):  # it is renamed if all went well
            temporary.unlink()


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield a new, hidden folder for unfinished files, which is deleted afterwards.

    The hidden folder lies in ``folder``, or in its nearest parent that exists, so that its files
    can be renamed into ``folder``. Messages about these files name ``folder`` instead. A process
    that is killed leaves the hidden folder behind; the next process that writes there deletes it.

    Raises:
        UserError: the hidden folder can't be made.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    with explained(folder, "into"):
        _remove_leftovers(there)
        place, lock = _temporary_folder(there)
    try:
        yield place
    except UserError as error:
        raise UserError(str(error).replace(str(place), str(folder))) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def keep_permissions(new: Path, old: Path) -> None:
    """Give a file the permissions of the one that it will replace, if there is one."""
    with suppress(OSError):  # some file systems have none
        mode = old.lstat().st_mode
        if stat.S_ISREG(mode):
            new.chmod(mode & 0o777)


def _require_replaceable(path: Path) -> None:
    """Refuse to replace what is not a file or a link.

    Raises:
        OSError: ``path`` is a directory, or its name is too long.
        UserError: ``path`` is a pipe or a device.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISLNK(mode):
        require_regular(path)


def _temporary(folder: Path) -> BinaryIO:
    """Create an empty file; while it is open, a lock tells other processes not to remove it."""
    while True:
        file = (folder / f".mprnet_lit-{secrets.token_hex(8)}.part").open("xb")
        if fcntl is not None:
            with suppress(OSError):  # this file system has no locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if Path(file.name).exists():  # else another process deleted it before it was locked
            return file
        file.close()


def _temporary_folder(folder: Path) -> tuple[Path, int | None]:
    """Make an empty folder, and lock it as :func:`_temporary` does; also returns what to close."""
    while True:
        place = folder / f".mprnet_lit-{secrets.token_hex(8)}.parts"
        place.mkdir()
        if fcntl is None:
            return place, None
        lock = os.open(place, os.O_RDONLY)
        with suppress(OSError):  # this file system has no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():
            return place, lock
        os.close(lock)


_cleaned: set[Path] = set()
_cleaning = threading.Lock()


def _remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of killed processes, which hold no lock; once for each folder."""
    folder = folder.absolute()
    if fcntl is None or folder in _cleaned or _TEMPORARY.fullmatch(folder.name):
        return
    with _cleaning:
        if folder in _cleaned:
            return
        with suppress(OSError):  # this user may write but not list it
            for path in folder.iterdir():
                if _TEMPORARY.fullmatch(path.name) and not path.is_symlink():
                    _remove_unlocked(path)
        _cleaned.add(folder)


def _remove_unlocked(path: Path) -> None:
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(os.fstat(lock).st_mode):
                shutil.rmtree(path)
            elif stat.S_ISREG(os.fstat(lock).st_mode):
                path.unlink()
        finally:
            os.close(lock)
