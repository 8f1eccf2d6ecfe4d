"""Manifest of a data folder: names, sizes, times and dimensions of its images, kept in the cache.

The first start of a training reads the headers of all images. A later start compares the size and
the modification time of each file with the manifest, and reads the headers of new and changed files
only. A manifest is a NumPy archive (``.npz``) that is replaced atomically.
"""

import contextlib
import hashlib
import json
import logging
import multiprocessing
import os
import sys
import time
import warnings
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mprnet_lit.images.listing import list_names
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.atomic import atomic_writer
from mprnet_lit.utils.cache import cache_folder
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import cores

log = logging.getLogger(__name__)

Check = Literal["known", "headers", "full"]
"""``headers`` to read the start and the end of new and changed files; ``full`` to read all files as
a whole; ``known`` to use a manifest that another process has just updated without a look at the
folder."""
Size = tuple[int, int]
"""Height and width in pixels."""

_FORMAT = 2
_YOUNG = 2_000_000_000
"""Nanoseconds. A file that changed so recently may change again with the same size and time."""
_MANY = 2_000
"""Number of files whose headers are read in processes, which takes longer to start than threads."""
_MAX_PROCESSES = 32


class Manifest:
    """Images in a folder and its subfolders, and their dimensions.

    The values of all files are in arrays, which are compared at once: an object for each of 100,000
    files would take most of the time and the memory of a start.

    Attributes:
        files: sorted names of the images, relative to the folder.
        sizes: height and width of each image in pixels, (N, 2) int32; 0 for an image that was not
            probed or is unreadable.
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
        self._path = cache_folder() / "manifests" / f"{digest}.npz"
        self._problems: dict[int, str] = {}
        """Error message of each unreadable file, by its place in ``files``."""
        if check == "known" and (stored := _Stored.read(self._path)):
            self.files = stored.names.split("\0")
            self._states, self.sizes, self._problems = stored.states, stored.sizes, stored.problems
            self.unread, self.closed = stored.unread, [Path(name) for name in stored.closed]
            return
        found = list_names(folder)
        self.files, self.unread, self.closed = found.files, found.unread, found.closed
        self._states = _states(folder, found.files)
        self.sizes = np.zeros((len(self.files), 2), np.int32)
        self._check = "full" if check == "full" else "headers"

    def probe(self, places: Sequence[int]) -> list[str]:
        """Determine the sizes of files; return an error message for each unreadable file.

        A manifest that is out of date is replaced. Other processes that need it wait.

        Args:
            places: places of the files in ``files``.
        """
        if self._check == "known":
            self._look([k for k in self._unsized(places) if k not in self._problems])
        elif self._check == "full" or not (self._adopt() and not self._unsized(places)):
            with _locked(self._path):
                listed = self._adopt()  # another process may have updated the manifest meanwhile
                before = self.sizes.copy(), dict(self._problems)
                self._look(places if self._check == "full" else self._unsized(places))
                if not listed or not (
                    np.array_equal(before[0], self.sizes) and before[1] == self._problems
                ):
                    self._write()
        return [
            self._problems[k].replace("\0", str(self._folder / self.files[k]))
            for k in self._unsized(places)
        ]

    def _unsized(self, places: Sequence[int]) -> list[int]:
        """Return the places without dimensions: of the new, changed and unreadable files."""
        chosen = np.asarray(places, np.intp)
        unsized: list[int] = chosen[(self.sizes[chosen] == 0).any(axis=1)].tolist()
        return unsized

    def _look(self, places: Sequence[int]) -> None:
        """Read files. A file that was unreadable before is read as a whole."""
        full = self._check == "full"
        tasks = [(str(self._folder / self.files[k]), full or k in self._problems) for k in places]
        if len(tasks) >= _MANY:
            log.info("Reading the headers of %d images in %s", len(tasks), self._folder)
        for k, result in zip(places, _probe_all(tasks), strict=True):
            self._problems.pop(k, None)
            if isinstance(result, str):
                self._problems[k] = result
            self.sizes[k] = 0 if isinstance(result, str) else result

    def _adopt(self) -> bool:
        """Adopt the results of unchanged files.

        Returns:
            Whether the manifest is of the files that the folder has now.
        """
        stored = _Stored.read(self._path)
        if stored is None:
            return False
        names = "\0".join(self.files)
        if stored.names == names:
            places = np.arange(len(self.files))
        else:
            known = {name: k for k, name in enumerate(stored.names.split("\0"))}
            places = np.array([known.get(name, -1) for name in self.files])
        same = (stored.states[places] == self._states).all(axis=1) & (places >= 0)
        self.sizes = np.where(same[:, None], stored.sizes[places], 0)
        numbers = dict(zip(places[same].tolist(), np.flatnonzero(same).tolist(), strict=True))
        problems = ((numbers.get(k), problem) for k, problem in stored.problems.items())
        self._problems = {k: problem for k, problem in problems if k is not None}
        skipped = stored.unread, stored.closed
        return stored.names == names and bool(same.all()) and skipped == self._skipped()

    def _skipped(self) -> tuple[list[str], list[str]]:
        return self.unread, list(map(str, self.closed))

    def _write(self) -> None:
        """Replace the manifest, if the cache can be written."""
        names, skipped = "\0".join(self.files), self._skipped()
        stored = _Stored(names, self._states, self.sizes, self._problems, *skipped)
        try:
            stored.write(self._path)
        except (UserError, OSError) as error:
            log.info("Each start reads the headers of the images in %s: %s", self._folder, error)


class _Stored(NamedTuple):
    """Content of a manifest file.

    ``names`` has the names of the files, separated by null characters. ``states`` has the size in
    bytes and the modification time in nanoseconds of each file, (N, 2) int64. The others are as in
    :class:`Manifest`.
    """

    names: str
    states: NDArray[np.int64]
    sizes: NDArray[np.int32]
    problems: dict[int, str]
    unread: list[str]
    closed: list[str]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the content; ``None`` if the file is missing or unusable."""
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                version, problems, *skipped = json.loads(arrays["others"].tobytes())
                if version != _FORMAT:
                    return None
                names = arrays["names"].tobytes().decode("utf-8", "surrogatepass")
                states, sizes = arrays["states"], arrays["sizes"]
            if not states.shape == sizes.shape == (names.count("\0") + 1, 2):
                raise ValueError("the lists differ in length")
            return cls(names, states, sizes, {int(k): v for k, v in problems.items()}, *skipped)
        except Exception as error:  # NumPy has many for a damaged file
            log.info("%s can't be used (%s), and is written anew", path, error)
            return None

    def write(self, path: Path) -> None:
        """Replace the file.

        Raises:
            UserError, OSError: the file can't be written.
        """
        names = self.names.encode("utf-8", "surrogatepass")  # file names may have surrogates
        others = json.dumps((_FORMAT, self.problems, self.unread, self.closed)).encode()
        with atomic_writer(path) as file:
            np.savez(
                file,
                names=np.frombuffer(names, np.uint8),
                states=self.states,
                sizes=self.sizes,
                others=np.frombuffer(others, np.uint8),
            )


def _states(folder: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the size in bytes and the modification time in nanoseconds of each file, (N, 2).

    The time of a young file is replaced by a unique one.
    """
    young, prefix, states = time.time_ns() - _YOUNG, f"{folder}{os.sep}", array("q")
    for name in names:
        try:
            status = os.stat(prefix + name)  # noqa: PTH116  # Path would be slow
            length, modified = status.st_size, status.st_mtime_ns
        except OSError:  # broken link
            length = modified = 0
        if modified >= young:
            modified = -time.time_ns()
        states.append(length)
        states.append(modified)
    return np.array(states, np.int64).reshape(-1, 2)


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
