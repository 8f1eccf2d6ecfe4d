"""Signals of a command (SIGTERM, SIGHUP, Ctrl-C), passed on to its child processes.

During training, :class:`~mprnet_lit.training.callbacks.stop_on_signal.StopOnSignal` handles them.
"""

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

_received: list[int] = []


@contextmanager
def passing_on() -> Iterator[None]:
    """Handle them so; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    numbers = (signal.SIGTERM, signal.SIGINT, *hangup())
    before = {n: signal.signal(n, _receive) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hangup() -> list[signal.Signals]:
    """Return SIGHUP, unless the system lacks it or the process ignores it, as under nohup."""
    number = getattr(signal, "SIGHUP", None)
    ignored = number is None or signal.getsignal(number) == signal.SIG_IGN
    return [] if ignored else [signal.SIGHUP]


def leave_terminal(descriptors: tuple[int, ...] = (1, 2)) -> None:
    """Discard further output to a closed terminal, where printing would raise an error."""
    for descriptor in descriptors:
        try:
            is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        except OSError:  # closed
            continue
        if is_device and not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def received() -> int:
    """Return the signal that came first; 0 for none."""
    return _received[0] if _received else 0


def end_if_received() -> None:
    """End this process if a signal came while others did its work.

    Raises:
        SystemExit: one did.
    """
    if number := received():
        raise SystemExit(128 + number)


def end_sweep_after_job(number: int) -> None:
    """Remember a signal that reached a job of a sweep too late to stop it."""
    if _in_sweep():
        _received.append(number)


def end_sweep_if_received() -> None:
    """End a sweep after a job that is complete, if a signal came during the job.

    Raises:
        SystemExit: a signal came.
    """
    if number := received():
        name = signal.Signals(number).name
        print(f"Stopped by {name} after this job, which is complete: add resume=auto to resume")
        raise SystemExit(128 + number)


def _receive(number: int, _: Any) -> None:
    import psutil

    leave_terminal()
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.Error):  # it has just ended
            child.send_signal(number)
    again = bool(_received)
    _received.append(number)
    if again or not (children and _in_sweep()):
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        print(f"Stopped by {signal.Signals(number).name}")
        raise SystemExit(128 + number)
    # The jobs save first; what they end with ends this process.


def _in_sweep() -> bool:
    """Return whether this command is a sweep; also before Hydra has read the command."""
    return not HydraConfig.initialized() or HydraConfig.get().mode == RunMode.MULTIRUN
