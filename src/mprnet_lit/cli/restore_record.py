"""Record of the source and the settings of each result in an output folder.

The record is a hidden file of JSON lines in the output folder. A line is appended in a single write
before the files of its result are moved into place, so that a killed process leaves no result
without a line. Several processes may append in parallel.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

from mprnet_lit.utils.atomic import (
    copy_permissions,
    require_regular_file,
    write_atomic,
    write_errors,
)
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import FileState, RealPathCache
from mprnet_lit.utils.locks import lock_file

RECORD = ".mprnet_lit.jsonl"
_MAX_BYTES = 2e9
_SPARE = 1000
"""Maximum number of superseded lines before the file is rewritten."""


@dataclass(frozen=True, slots=True)
class Result:
    """Recorded result.

    Attributes:
        source: path of the photo or video, relative to the output folder; empty for a report.
        photo: state of the source file; ``None`` for a report.
        recipe: digest of the weights and of the options that change the result.
        files: states of the result and its additional images, by file name.
    """

    source: str
    photo: FileState | None
    recipe: str
    files: Mapping[str, FileState]

    def line(self) -> bytes:
        """Return the line after a newline, because the last line of the file may be truncated."""
        values = {
            "source": self.source,
            "photo": self.photo and astuple(self.photo),
            "recipe": self.recipe,
            "files": {name: astuple(file) for name, file in self.files.items()},
        }
        return b"\n" + json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def of(cls, line: bytes) -> Self:
        """Parse a line of the record.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError: the line is damaged.
        """
        values: dict[str, Any] = json.loads(line)
        photo = None if values["photo"] is None else _file_state(values["photo"])
        files = {name: _file_state(file) for name, file in values["files"].items()}
        if not (isinstance(values["source"], str) and files) or "\0" in values["source"]:
            raise ValueError(line)
        return cls(values["source"], photo, str(values["recipe"]), files)


def _file_state(values: Any) -> FileState:
    if [type(value) for value in values] != [int, int, int, str]:
        raise TypeError(values)
    return FileState(*values)


class Record:
    """Results in an output folder, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.path = self.folder / RECORD
        self._shown = folder / RECORD
        self.exists = False
        self._results: dict[str, list[Result]] = {}
        self._relative: dict[str, str] = {}  # by folder
        self._read = (0, 0)  # inode of the file, and start of its last line
        self.refresh()

    def refresh(self) -> None:
        """Read the lines that other processes have appended.

        Raises:
            UserError: the file is not a regular file, or can't be read.
        """
        inode, start = self._read
        try:
            status = os.lstat(self.path)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{self._shown} is not a regular file: remove it")
            require_regular_file(self.path, _MAX_BYTES)
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != inode or status.st_size < start:
                    start = 0
                file.seek(start)
                content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UserError(
                f"the record {self._shown} can't be read ({error.strerror}): make it readable, "
                "or choose another output"
            ) from error
        if start == 0:
            self._results = {}
        self.exists = True
        self._read = status.st_ino, start + max(content.rfind(b"\n"), 0)
        lines = content.split(b"\n")
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self._add(Result.of(line))  # the last line is truncated if the process was killed
        if start == 0 and len(lines) > 2 * len(self._results) + _SPARE:
            self._compact(content)

    def find(self, name: str) -> Result | None:
        """Return the result that a file belongs to; ``None`` if not recorded or changed since."""
        for result in reversed(self._results.get(name, [])):
            if result.files[name].matches(self.folder / name):
                return result
        return None

    def relative(self, real: str) -> str:
        """Return the real path of a source relative to the folder, with forward slashes."""
        folder, name = os.path.split(real)
        if folder not in self._relative:
            try:
                relative = os.path.relpath(folder, self.folder)
            except ValueError:  # on another drive (Windows)
                relative = folder
            self._relative[folder] = relative.replace(os.sep, "/").rstrip("/")
        return f"{self._relative[folder]}/{name}"

    def path_of(self, result: Result) -> Path:
        """Return the path of a result's source."""
        return Path(os.path.normpath(self.folder / result.source))

    def append(self, results: Iterable[Result]) -> None:
        """Append results to the record and flush it to disk."""
        added = list(results)
        content = b"".join(result.line() for result in added)
        with write_errors(self.path, "the record"):
            while not self._write(content):
                pass
        for result in added:
            self._add(result)
        self.exists = True

    def _add(self, result: Result) -> None:
        for name in result.files:
            # Keep the previous result: a killed process may have appended only the line.
            previous = self._results.get(name, [])[-1:]
            if previous != [result]:  # else this process appended the line
                self._results[name] = [*previous, result]

    def _write(self, content: bytes) -> bool:
        """Append to the file; return False if another process has replaced the file."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # Unix, Windows
        descriptor = os.open(self.path, flags, 0o666)
        try:
            # Network file systems append after the lines of other machines only to a locked file.
            lock_file(descriptor)
            if not os.path.samestat(os.fstat(descriptor), self.path.lstat()):
                return False
            if os.write(descriptor, content) < len(content):
                raise OSError("the write was incomplete")
            os.fsync(descriptor)
            return True
        except FileNotFoundError:
            return False
        finally:
            os.close(descriptor)

    def _compact(self, content: bytes) -> None:
        """Remove superseded lines, unless another process is writing."""
        kept = {id(r): r.line() for results in self._results.values() for r in results}
        # The record in a read-only folder is not changed.
        with suppress(OSError, UserError), self.path.open("rb") as file:
            if lock_file(file.fileno(), wait=False) and file.read() == content:
                write_atomic(self.path, b"".join(kept.values()))


class Records:
    """Cache of the records of several folders."""

    def __init__(self) -> None:
        self.real = RealPathCache()
        self._records: dict[Path, Record] = {}

    def of(self, folder: Path) -> Record:
        """Return the record of a folder."""
        if folder not in self._records:
            self._records[folder] = Record(folder)
        return self._records[folder]

    def publish(
        self,
        staged: Path,
        folder: Path,
        recipe: str = "",
        source: Path | None = None,
        photo: FileState | None = None,
    ) -> None:
        """Record a result and move its files from a temporary folder into the output folder.

        ``photo`` is the state of ``source`` when it was read. Both are ``None`` for a report.
        """
        with write_errors(folder, "into"):
            folder.mkdir(parents=True, exist_ok=True)
            record = self.of(folder)
            paths = sorted(staged.iterdir(), key=lambda path: len(path.name), reverse=True)
            files = {path.name: FileState.of(path) for path in paths}
            name = "" if source is None else record.relative(self.real(source))
            record.append([Result(name, photo, recipe, files)])
            for path in paths:  # the result has the shortest name and is moved last
                copy_permissions(path, folder / path.name)
                path.replace(folder / path.name)
