"""Manifest of a data folder: names, sizes, times and dimensions of its images, kept in the cache.

The first start of a training reads the headers of all images. A later start compares the size and
the modification time of each file with the manifest, and reads the headers of new and changed files
only. A manifest is an SQLite file that is replaced atomically.
"""

import contextlib
import hashlib
import logging
import multiprocessing
import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from filelock import FileLock

from mprnet_lit.images.listing import list_names
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.atomic import atomic_writer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import cores
from mprnet_lit.utils.mirror import cache_folder

log = logging.getLogger(__name__)

Check = Literal["known", "headers", "full"]
"""``headers`` to read the start and the end of new and changed files; ``full`` to read all files as
a whole; ``known`` to use a manifest that another process has just updated without a look at the
folder."""
Size = tuple[int, int]
"""Height and width in pixels."""

_FORMAT = 1
_YOUNG = 2_000_000_000
"""Nanoseconds. A file that changed so recently may change again with the same size and time."""
_MANY = 2_000
"""Number of files whose headers are read in processes, which takes longer to start than threads."""
_MAX_PROCESSES = 32
_MAX_LENGTH = 2**48
"""Bytes. Files are shorter."""
_TABLES = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA user_version = {_FORMAT};
CREATE TABLE file (
    name BLOB PRIMARY KEY, size INTEGER, modified INTEGER,
    height INTEGER, width INTEGER, problem BLOB
) WITHOUT ROWID;
CREATE TABLE skipped (name BLOB, is_folder INTEGER);
"""


class Manifest:
    """Images in a folder and its subfolders, and their dimensions.

    Attributes:
        files: sorted names of the images, relative to the folder.
        unread: such names of the images and videos with unsupported suffixes.
        closed: paths of the folders that could not be opened.

    Args:
        folder: folder of the images. If the cache can't be written, each start reads all headers.
        check: how to check the images. ``known`` without a manifest means ``headers``.

    Raises:
        UserError: ``folder`` does not exist, is not a folder, or contains no images.
    """

    def __init__(self, folder: Path, check: Check = "headers") -> None:
        self._folder, self._check = folder, check
        digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:24]
        self._path = cache_folder() / "manifests" / f"{digest}.sqlite"
        self._states: dict[str, int] = {}
        """Size and modification time of each file; see :func:`_packed`."""
        self._results: dict[str, Size | str] = {}
        """Dimensions of each readable file, and error message of each other file."""
        self.files, self.unread, self.closed = list[str](), list[str](), list[Path]()
        if check == "known" and self._adopt():
            self.files = list(self._states)
            return
        self._results = {}
        found = list_names(folder)
        self.files, self.unread, self.closed = found.files, found.unread, found.closed
        young = time.time_ns() - _YOUNG
        self._states = {name: _state(f"{folder}{os.sep}{name}", young) for name in self.files}
        self._check = "full" if check == "full" else "headers"

    def probe(self, names: Collection[str]) -> tuple[dict[str, Size], list[str]]:
        """Return the height and width of each readable file, and a message per unreadable file.

        A manifest that is out of date is replaced. Other processes that need it wait.

        Args:
            names: names of files of the folder.
        """
        if self._check == "known":
            self._look([name for name in names if name not in self._results])
        elif self._check == "full" or not (self._adopt() and not self._unsized(names)):
            with _locked(self._path):
                listed = self._adopt()  # another process may have updated the manifest meanwhile
                todo = list(names) if self._check == "full" else self._unsized(names)
                before = [self._results.get(name) for name in todo]
                self._look(todo)
                if not listed or before != [self._results.get(name) for name in todo]:
                    self._write()
        sizes = {name: r for name in names if isinstance(r := self._results[name], tuple)}
        problems = ((name, self._results[name]) for name in names if name not in sizes)
        return sizes, [str(r).replace("\0", str(self._folder / name)) for name, r in problems]

    def _unsized(self, names: Collection[str]) -> list[str]:
        """Return the files without dimensions: the new, changed and unreadable ones."""
        return [name for name in names if not isinstance(self._results.get(name), tuple)]

    def _look(self, names: Sequence[str]) -> None:
        """Read files. A file that was unreadable before is read as a whole."""
        full = self._check == "full"
        tasks = [(str(self._folder / name), full or name in self._results) for name in names]
        if len(tasks) >= _MANY:
            log.info("Reading the headers of %d images in %s", len(tasks), self._folder)
        self._results |= zip(names, _probe_all(tasks), strict=True)

    def _adopt(self) -> bool:
        """Adopt the results of unchanged files; with ``known``, all results and names.

        Returns:
            Whether the manifest is of the files that the folder has now.
        """
        if not self._path.is_file():
            return False
        known, sizes = self._check == "known", dict[Size, Size]()
        count, same = 0, True
        try:
            address = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
                if database.execute("PRAGMA user_version").fetchone() != (_FORMAT,):
                    return False
                rows = database.execute("SELECT * FROM file ORDER BY name")
                for encoded, length, modified, height, width, problem in rows:
                    name, state = _decoded(encoded), _packed(length, modified)
                    if known:
                        self._states[name] = state
                    elif self._states.get(name) != state:
                        same = False
                        continue
                    count += 1
                    if problem is not None:
                        self._results[name] = _decoded(problem)
                    elif height is not None:
                        size = height, width
                        self._results[name] = sizes.setdefault(size, size)
                skipped = [(_decoded(n), f) for n, f in database.execute("SELECT * FROM skipped")]
        except (sqlite3.Error, OSError, TypeError, ValueError) as error:
            log.info("%s can't be used (%s), and is written anew", self._path, error)
            return False
        if known:
            self.unread = [name for name, is_folder in skipped if not is_folder]
            self.closed = [Path(name) for name, is_folder in skipped if is_folder]
        return same and count == len(self._states) and skipped == self._skipped()

    def _skipped(self) -> list[tuple[str, int]]:
        return [*((name, 0) for name in self.unread), *((str(p), 1) for p in self.closed)]

    def _rows(self) -> Iterator[tuple[bytes, int, int, int | None, int | None, bytes | None]]:
        for name, state in self._states.items():
            result = self._results.get(name)
            size = result if isinstance(result, tuple) else (None, None)
            problem = _encoded(result) if isinstance(result, str) else None
            modified, length = divmod(state, _MAX_LENGTH)
            yield (_encoded(name), length, modified, *size, problem)

    def _write(self) -> None:
        """Replace the manifest, if the cache can be written."""
        try:
            with (
                atomic_writer(self._path) as file,
                contextlib.closing(sqlite3.connect(file.name)) as database,
            ):
                database.executescript(_TABLES)
                database.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?)", self._rows())
                skipped = [(_encoded(name), kind) for name, kind in self._skipped()]
                database.executemany("INSERT INTO skipped VALUES (?, ?)", skipped)
                database.commit()
        except (UserError, sqlite3.Error) as error:
            log.info("Each start reads the headers of the images in %s: %s", self._folder, error)


def _packed(length: int, modified: int) -> int:
    """Return a size in bytes and a time in nanoseconds as one number.

    A tuple for each file would take twice the memory, and a third of the time of a start for the
    garbage collector.
    """
    return modified * _MAX_LENGTH + length


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # file names may have surrogates


def _decoded(encoded: bytes) -> str:
    return encoded.decode("utf-8", "surrogatepass")


def _state(path: str, young: int) -> int:
    """Return the size and the modification time of a file, which is unique for a young file."""
    try:
        status = os.stat(path)  # noqa: PTH116  # Path would be slow
    except OSError:  # broken link
        return 0
    modified = status.st_mtime_ns
    return _packed(status.st_size, modified if modified < young else -time.time_ns())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a manifest against other processes, if its file system supports locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{path}.lock"))
        yield


def _probe(task: tuple[str, bool]) -> Size | str:
    """Return the dimensions of an image, or an error message with a null character for its path."""
    path, full = task
    try:
        return probe_image(Path(path), full=full)
    except UserError as error:
        return str(error).replace(path, "\0")


def _probe_all(tasks: Sequence[tuple[str, bool]]) -> list[Size | str]:
    """Probe images in threads; many images in processes, where these can be forked."""
    # Pillow's warnings would duplicate the error messages. The warnings filter is global to the
    # process, so it is set here and not in the threads.
    with warnings.catch_warnings(action="ignore"):
        can_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
        count = min(cores(), _MAX_PROCESSES)
        if len(tasks) < _MANY or count < 2 or not can_fork:
            with ThreadPoolExecutor(8) as pool:
                return list(pool.map(_probe, tasks))
        results: list[Size | str] = [""] * len(tasks)
        readers = [_fork(tasks[k::count]) for k in range(count)]
        for k, reader in enumerate(readers):
            try:
                results[k::count] = reader.recv()
            except EOFError:  # the process was killed
                results[k::count] = map(_probe, tasks[k::count])
        return results


def _fork(tasks: Sequence[tuple[str, bool]]) -> Connection:
    """Start a process that probes images; return the connection that receives the results."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    context.Process(target=_send, args=(writer, tasks), daemon=True).start()
    writer.close()
    return reader


def _send(writer: Connection, tasks: Sequence[tuple[str, bool]]) -> None:
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # the parent process has ended
        writer.send([_probe(task) for task in tasks])
