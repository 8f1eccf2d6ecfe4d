"""Temporary folder that several processes of a machine share."""

import multiprocessing
import os
import shutil
import weakref
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import psutil

from mprnet_lit.utils.atomic import remove_leftovers, remove_unlocked, temporary_folder_name
from mprnet_lit.utils.locks import lock_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class ScratchFolder:
    """Hidden folder that exists until the last of its users has ended.

    Each process that creates an instance is a user. A copy in a child process is not: a child, such
    as a data worker, only deletes the folder after the death of its parent (see
    :meth:`delete_with_parent`). If all processes are killed, the next process that creates a folder
    with the same parent deletes this folder (not on Windows).

    Args:
        parent: existing folder for the scratch folder.
        token: 16 hexadecimal digits. Users with the same token share a folder.

    Raises:
        OSError: the folder can't be created.
    """

    def __init__(self, parent: Path, token: str) -> None:
        remove_leftovers(parent)
        self.path = parent / temporary_folder_name(token)
        self._lock = _join(self.path)
        self.close = weakref.finalize(self, _leave, self.path, self._lock, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_lock": None}

    def delete_with_parent(self) -> None:
        """In a child process: delete the folder at exit if the parent process was killed."""
        Finalize(None, _leave_orphaned, (self.path, self._lock), exitpriority=0)


def _join(folder: Path) -> int | None:
    """Create or open a folder; return the file descriptor of a shared lock on it."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        if fcntl is None:  # Windows
            return None
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # deleted by another process
            continue
        lock_file(lock, shared=True)
        if folder.exists():  # else deleted by another process before the lock
            return lock
        os.close(lock)


def _leave(folder: Path, lock: int | None, user: int) -> None:
    """Release the lock, and delete the folder if it has no other users."""
    if os.getpid() != user:  # in a fork of the user
        return
    if lock is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    # The children inherited the descriptor, and with it this lock. NFS has no exclusive locks of
    # folders: if other users remain, their images are decoded again.
    if lock_file(lock, wait=False) is not False:
        shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _leave_orphaned(folder: Path, lock: int | None) -> None:
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return
    adopted = os.name == "posix" and os.getppid() != parent.pid
    if not (adopted or not psutil.pid_exists(parent.pid)):
        return
    if lock is not None or fcntl is None:
        _leave(folder, lock, os.getpid())
    else:  # in a spawned process, which has no lock
        remove_unlocked(folder)
