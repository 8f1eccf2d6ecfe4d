"""Python processes forked from the test process, which saves the time of their imports.

Within :func:`warm_python`, subprocess, loky and multiprocessing fork the test process instead of
starting ``python -m MODULE``. The fork runs the module with the pipes, environment, directory,
session and exit status of a new interpreter. Its own child processes are forks as well: those of
Lightning, torchrun, joblib and submitit.
"""

import _posixsubprocess
import atexit
import functools
import gc
import importlib
import logging
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import process, resource_tracker, util
from pathlib import Path
from typing import Any, NoReturn

import pytest

_MainProcess = type(process.current_process())
_real = _posixsubprocess.fork_exec
_SPAWNED = "--multiprocessing-fork"
_WORKER = "import sys;exec(eval(sys.stdin.readline()))"
"""Program of the workers of pytest-xdist."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_on = False


def import_tests(arguments: Iterable[str]) -> None:
    """Import the test modules in the files and folders that pytest has as arguments.

    The workers of pytest-xdist, which are forks, find them in ``sys.modules``. A module that can't
    be imported is left to them.
    """
    root = Path(__file__).parent.parent
    for argument in arguments:
        place = Path(argument.partition("::")[0]).absolute()
        for path in sorted(place.rglob("test_*.py")) if place.is_dir() else [place]:
            with suppress(Exception, pytest.skip.Exception):
                importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
    gc.freeze()  # the forks then share these objects


@contextmanager
def warm_python(on: bool = True) -> Iterator[None]:
    """Fork this process instead of starting Python, unless ``on`` is false."""
    global _on
    before, _on = _on, on and sys.platform == "linux"
    if _on:
        _import_what_trainings_import()
    try:
        yield
    finally:
        _on = before


@functools.cache
def _import_what_trainings_import() -> None:
    """Import the modules of a training and Hydra's plugins once, and not in each fork."""
    from hydra.core.plugins import Plugins

    importlib.import_module("mprnet_lit.cli.train")
    importlib.import_module("torch.utils.tensorboard")
    Plugins.instance()


def _fork_exec(args: Sequence[Any], *rest: Any) -> int:
    """Replace the C function that starts a process for all libraries."""
    program, *command = (os.fsdecode(part) for part in args)
    while command[:1] in (["-u"], ["-B"]):
        command = command[1:]
    known = command[:1] == ["-m"] or command == ["-c", _WORKER]
    known |= command[:1] == ["-c"] and command[2:] == [_SPAWNED]
    if not _on or program != sys.executable or not known:
        return _real(args, *rest)
    pid = os.fork()
    if pid == 0:
        try:
            if rest[20] is not None:
                rest[20]()  # preexec_fn
            _become(command, *rest[2:15])
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(70)
    return pid


_posixsubprocess.fork_exec = subprocess._fork_exec = _fork_exec  # type: ignore[assignment,attr-defined]


def _become(
    command: Sequence[str], keep: Sequence[int], folder: Any, environment: Any, stdin: int,
    _stdin_of_parent: int, _stdout_of_parent: int, stdout: int, _stderr_of_parent: int, stderr: int,
    _read: int, started: int, _restore: bool, session: bool,
) -> NoReturn:  # fmt: skip
    """Run a program in this forked process as a new interpreter would."""
    if session:
        os.setsid()
    _take_descriptors((stdin, stdout, stderr), set(keep) - {started})
    if environment is not None:
        os.environb.clear()
        os.environb.update(entry.split(b"=", 1) for entry in environment)
    if folder is not None:
        os.chdir(folder)
    _forget()
    global _on
    _on = command != ["-c", _WORKER]  # a worker starts its own processes in the usual way
    flag, program, *arguments = command
    sys.argv = [flag, *arguments]
    sys.path.insert(0, str(Path.cwd()))
    warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)
    status = 1
    try:
        if flag == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(program, {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        if isinstance(end.code, int | None):
            status = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _take_descriptors(standard: tuple[int, int, int], keep: set[int]) -> None:
    """Connect the standard streams and redirect all other descriptors, which objects still own."""
    for number, given in enumerate(standard):
        if given >= 0:
            os.dup2(given, number)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for path in Path("/proc/self/fd").iterdir():
        number = int(path.name)
        if number > 2 and number != nowhere and number not in keep:
            with suppress(OSError):
                os.fstat(number)
                os.dup2(nowhere, number, inheritable=False)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, 1, closefd=False) for number, mode in enumerate("rww")
    )
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[assignment,misc]


def _forget() -> None:
    """Reset the state that belongs to the parent process."""
    atexit._clear()
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    util._run_after_forkers()  # type: ignore[attr-defined]
    process._children = set()  # type: ignore[attr-defined]
    process._current_process = _MainProcess()  # type: ignore[attr-defined]
    tracker = resource_tracker._resource_tracker
    tracker._fd = tracker._pid = None  # type: ignore[attr-defined]
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.root.handlers.clear()
    tempfile.tempdir = None  # the default of the new environment

    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    for state in (GlobalHydra, HydraConfig):
        Singleton._instances.pop(state, None)
    rank_zero_only.rank = _get_rank() or 0  # type: ignore[attr-defined]
