"""Contract for any input: it is accepted or rejected with a UserError, without side effects."""

import os
import site
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from mprnet_lit.utils.errors import UserError

LIMIT = 20.0
"""Time limit of one input in seconds. Every seed takes less than one second."""
RAN = "ran"
"""Folder that a :class:`~fuzz.seeds.Trap` creates in the folder of the input when it is loaded."""

_NEVER = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.startfile",
    "pty.spawn",
    "socket.bind",
    "socket.connect",
    "subprocess.Popen",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Files that Python and the packages read: modules imported on first use, and system information.
_OWN = tuple(
    os.path.realpath(place)
    for place in (
        *sysconfig.get_paths().values(),
        *site.getsitepackages(),
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).parents[1]),
        "/proc",
        "/sys",
        "/usr",
        "/etc",
        "/dev/urandom",
    )
)
_TELEMETRY = str(Path.home() / "intel")  # written by OpenVINO
_SECRET = "/etc/passwd"

Action = Callable[[bytes, Path], object]
"""Function that passes an input to the code under test, which may use the folder."""


class Finding(AssertionError):  # noqa: N818
    """Violation of the contract."""


class _Watch:
    """Records actions outside the folder of the input with a Python audit hook."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []
        sys.addaudithook(self._event)  # an audit hook cannot be removed

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """Record the actions within the ``with`` block."""
        self.folder, self.seen = os.path.realpath(folder), []
        try:
            yield self.seen
        finally:
            self.folder = ""

    def _event(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.folder:
            return
        if event.startswith(_NEVER):
            self.seen.append(f"{event} {arguments[:1]}")
            raise PermissionError(f"{event} is not allowed here")
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            inside = f"{path}/".startswith(f"{self.folder}/")
            known = path.startswith(_OWN) and path != _SECRET and not flags & _WRITES
            known |= path.startswith(_TELEMETRY)
            if not (inside or known or path == os.devnull or path.endswith((".pyc", ".pyi"))):
                self.seen.append(f"open {path}")
                raise PermissionError(f"{path} is not allowed here")


_watch: list[_Watch] = []


def attempt(action: Action, data: bytes, folder: Path) -> tuple[bool, float]:
    """Process one input, and return whether it was accepted and the elapsed seconds.

    Raises:
        Finding: the input causes an error other than UserError, a UserError with an empty message,
            an action outside its folder, the execution of embedded code, or a timeout.
    """
    if not _watch:
        _watch.append(_Watch())
    accepted = True
    started = time.perf_counter()
    cache = {"MPRNET_LIT_CACHE": str(folder / "cache")}  # of the manifests of data folders
    with _watch[0].over(folder) as seen, mock.patch.dict(os.environ, cache):
        try:
            action(data, folder)
        except UserError as error:
            accepted = False
            if not str(error).strip():
                raise Finding("an error without a message") from error
        except Finding:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [f for f in where if "/mprnet_lit/" in f.filename] or where[-1:]
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            raise Finding(f"{type(error).__name__} at {place}") from error
    seconds = time.perf_counter() - started
    if seen:
        raise Finding(f"action outside the folder: {seen[0]}")
    if (folder / RAN).exists():
        raise Finding("code in the input ran")
    if seconds > LIMIT:
        raise Finding(f"took longer than {LIMIT:.0f} s")
    return accepted, seconds
