"""Handling of signals (SIGTERM, SIGHUP, Ctrl-C) and forwarding to child processes.

During training, :class:`~mprnet_lit.training.callbacks.stop_on_signal.StopOnSignal` handles the
signals.
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
def forward_signals() -> Iterator[None]:
    """Forward signals to the child processes during the block.

    The function has no effect outside the main thread, because Python allows only the main thread
    to set signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    numbers = (signal.SIGTERM, signal.SIGINT, *hangup_signals())
    previous = {n: signal.signal(n, _receive) for n in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def hangup_signals() -> list[signal.Signals]:
    """Return the signals of a closed terminal, unless they are ignored (``nohup``).

    The signal is SIGHUP, and on Windows SIGBREAK, which Ctrl-Break sends too.
    """
    found = (getattr(signal, name, None) for name in ("SIGHUP", "SIGBREAK"))
    return [n for n in found if n is not None and signal.getsignal(n) != signal.SIG_IGN]


def detach_from_terminal(descriptors: tuple[int, ...] = (1, 2)) -> None:
    """Redirect output to the null device if its terminal is closed, as printing would fail."""
    for descriptor in descriptors:
        try:
            is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        except OSError:  # closed
            continue
        if is_device and not os.isatty(descriptor):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def received_signal() -> int:
    """Return the number of the first received signal, or 0."""
    return _received[0] if _received else 0


def exit_if_signaled() -> None:
    """Raise SystemExit if a signal was received while child processes did the work."""
    if number := received_signal():
        raise SystemExit(128 + number)


def record_late_signal(number: int) -> None:
    """Record a signal that a job of a sweep received too late to stop the training."""
    if _in_sweep():
        _received.append(number)


def exit_sweep_if_signaled() -> None:
    """Raise SystemExit after a completed job if a signal was received during the job."""
    if number := received_signal():
        name = signal.Signals(number).name
        print(f"Stopped by {name} after a completed job: add resume=auto to resume the sweep")
    exit_if_signaled()


def _receive(number: int, _: Any) -> None:
    import psutil

    detach_from_terminal()
    children = psutil.Process().children(recursive=True)
    for child in children:
        # ValueError: psutil sends only SIGTERM on Windows, whose console signals all processes.
        with suppress(psutil.Error, ValueError):  # psutil.Error: the child has already exited
            child.send_signal(number)
    again = bool(_received)
    _received.append(number)
    if again or not (children and _in_sweep()):
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        print(f"Stopped by {signal.Signals(number).name}")
        raise SystemExit(128 + number)
    # The jobs save a checkpoint and exit; exit_if_signaled() then ends this process.


def _in_sweep() -> bool:
    """Return whether the command is a sweep; also True before Hydra has parsed the command."""
    return not HydraConfig.initialized() or HydraConfig.get().mode == RunMode.MULTIRUN
