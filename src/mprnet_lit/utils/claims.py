"""Claims: division of work among processes on any number of machines that share a folder.

Each process has a file in a hidden folder, which is locked and whose modification time advances
while the process runs. A claim of a name is a file that is created exclusively and names its
process. These operations are atomic on local and on network file systems. The claims of a process
that was killed are detected and replaced:

- on the same machine at once, because the system releases the lock of the file;
- from another machine, or without support of locks, after the modification time has not advanced
  for 60 seconds. All times are those of the file system, so that clocks need not agree.
"""

import hashlib
import os
import re
import secrets
import socket
import threading
import time
import uuid
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Self

from mprnet_lit.utils.atomic import write_errors
from mprnet_lit.utils.locks import lock_file

FOLDER = ".mprnet_lit.claims"
_NAMES = re.compile(r"[0-9a-f]{16}\.worker|[0-9a-f]{32}\.\d+(\.[0-9a-f]{16})?")
_BEAT = 10.0
"""Seconds between two updates of the modification time."""
_TIMEOUT = 60.0
"""Seconds without an update after which a process on another machine counts as killed."""
_TRUSTED = 1.0
"""Seconds after which another process is examined again."""


class State(Enum):
    """State of a name.

    It is claimed by this process, by another one, or by another one with another purpose, or it
    failed in another process.
    """

    MINE = "mine"
    BUSY = "busy"
    CONFLICT = "conflict"
    FAILED = "failed"


class Claims:
    """Context manager of the claims of this process in a folder that other processes share.

    Leaving the context releases all claims. The last process removes the hidden folder and the
    error messages of failed names.

    Args:
        folder: folder that contains the hidden folder. It is created if it is missing, and then
            removed if it is empty when this process ends.
        purpose: one word that is equal in all processes whose results are interchangeable.

    Raises:
        UserError: the hidden folder can't be created.
    """

    def __init__(self, folder: Path, purpose: str = "") -> None:
        self.folder = folder / FOLDER
        self._purpose = purpose
        self._token = secrets.token_hex(8)
        self._owned: dict[str, Path] = {}
        self._examined: dict[Path, tuple[float, bool]] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        parents = self.folder.absolute().parents
        self._created = [self.folder, *(path for path in parents if not path.exists())]
        with write_errors(self.folder.parent, "into"):
            self._descriptor = self._join()
            self._joined = self._file_of(self._token).stat().st_mtime
        self._beats = threading.Thread(target=self._beat, name="claims", daemon=True)
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._beats.join()
        for name in list(self._owned):
            self.release(name)
        now = self._now()
        os.close(self._descriptor)  # Windows does not remove an open file
        with suppress(OSError):
            self._file_of(self._token).unlink()
        self._remove_leftovers(now)
        for path in self._created:
            with suppress(OSError):  # not empty
                path.rmdir()

    def take(self, name: str) -> tuple[State, str]:
        """Claim a name; return its state and, if another process failed, the error message.

        Raises:
            UserError: the claim can't be written.
        """
        first, number = self._path(name), 0
        while not self._create(path := first.with_suffix(f".{number}")):
            try:
                line, _, message = path.read_text(encoding="utf-8").partition("\n")
                is_new = path.stat().st_mtime >= self._joined
            except FileNotFoundError:
                continue  # released at this moment
            owner, _, purpose = line.partition(" ")
            # A process that was killed may have left its claim empty.
            ended = self._has_ended(self._file_of(owner) if owner else path)
            if message and purpose == self._purpose and (is_new or not ended):
                return State.FAILED, message
            if not (ended or message):
                is_busy = purpose == self._purpose or not owner
                return State.BUSY if is_busy else State.CONFLICT, ""
            number += 1  # claims are not replaced, so that only one process succeeds the owner
        self._owned[name] = path
        if path.with_suffix(f".{number + 1}").exists():  # its process succeeded an earlier owner
            self._owned.pop(name).unlink(missing_ok=True)
            return State.BUSY, ""
        return State.MINE, ""

    def is_free(self, name: str) -> bool:
        """Return whether no process has a claim of a name."""
        return not self._path(name).exists()

    def release(self, name: str) -> None:
        """Release the claim of a name, after its result is recorded elsewhere."""
        path = self._owned.pop(name)
        for number in range(int(path.suffix[1:]), -1, -1):  # the claims of killed processes too
            _remove(path.with_suffix(f".{number}"))

    def fail(self, name: str, message: str) -> None:
        """Replace the claim of a name by an error message for the other processes.

        The message remains until the last process ends. It is ignored by processes that start after
        this process has ended.
        """
        path = self._owned[name]
        temporary = path.with_name(f"{path.name}.{self._token}")
        try:
            temporary.write_text(f"{self._token} {self._purpose}\n{message}", encoding="utf-8")
            temporary.replace(path)
            del self._owned[name]
        except OSError:  # the others try the name too
            self.release(name)

    def _create(self, path: Path) -> bool:
        """Create a claim; return False if it exists."""
        with write_errors(self.folder.parent, "into"):
            try:
                file = path.open("x", encoding="utf-8")
            except FileExistsError:
                return False
            with file:
                file.write(f"{self._token} {self._purpose}\n")
        return True

    def _path(self, name: str) -> Path:
        """Return the first claim of a name."""
        return self.folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.0"

    def _file_of(self, token: str) -> Path:
        return self.folder / f"{token}.worker"

    def _join(self) -> int:
        """Create and lock the file of this process; return its file descriptor."""
        path = self._file_of(self._token)
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:  # another process removed the empty folder at this moment
                continue
            lock_file(descriptor)
            os.write(descriptor, _machine().encode())
            if path.exists():  # else another process removed the file before it was locked
                return descriptor
            os.close(descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            self._now()

    def _now(self) -> float:
        """Update the file of this process; return the time of the file system in seconds."""
        own = self._file_of(self._token)
        try:
            os.utime(own)
            return own.stat().st_mtime
        except OSError:
            return time.time()

    def _has_ended(self, file: Path) -> bool:
        """Return whether the process of a file has ended; examine a running process once a second.

        A missing file belongs to a process that has ended.
        """
        if file == self._file_of(self._token):
            return False
        examined, ended = self._examined.get(file, (float("-inf"), False))
        if not ended and time.monotonic() - examined > _TRUSTED:
            try:
                ended = _is_abandoned(file, self._now())
            except OSError as error:
                ended = isinstance(error, FileNotFoundError)
            self._examined[file] = time.monotonic(), ended
        return ended

    def _remove_leftovers(self, now: float) -> None:
        """Remove the files of killed processes, unless another process is running."""
        with suppress(OSError):
            paths = [path for path in self.folder.iterdir() if _NAMES.fullmatch(path.name)]
            workers = [path for path in paths if path.suffix == ".worker"]
            if all(_is_abandoned(path, now, remove=True) for path in workers):
                for path in paths:
                    path.unlink(missing_ok=True)


def _is_abandoned(path: Path, now: float, *, remove: bool = False) -> bool:
    """Return whether no running process updates a file; remove such a file if asked to.

    ``now`` is the time of the file system in seconds.
    """
    with path.open("rb") as file:  # a network file system updates its cached times
        is_local = file.read().decode(errors="replace") == _machine()
        ended = lock_file(file.fileno(), wait=False) if is_local else None
        if ended is None:
            ended = now - os.fstat(file.fileno()).st_mtime > _TIMEOUT
    if ended and remove:  # Windows does not remove an open file
        path.unlink(missing_ok=True)
    return ended


def _remove(path: Path) -> None:
    """Remove a file. Windows refuses that while another process reads the file."""
    for _ in range(100):
        try:
            return path.unlink(missing_ok=True)
        except PermissionError:
            time.sleep(0.01)
        except OSError:
            return None
    return None


def _machine() -> str:
    """Return an identifier of the running system, whose processes share locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode()}"
