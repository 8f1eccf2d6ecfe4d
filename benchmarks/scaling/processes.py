"""Run a function in a new process, and count the time and memory that it uses."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from mprnet_lit.utils.hardware import peak_resident

T = TypeVar("T")


@dataclass
class Used:
    """Seconds, CPU seconds (including ended child processes), and memory growth in bytes.

    The growth is the peak resident memory minus the resident memory at the start.
    """

    seconds: float = 0
    cpu: float = 0
    growth: float = 0


def in_new_process(function: Callable[..., T], *arguments: object) -> T:
    """Return the result of a picklable function that runs in a process of its own.

    The process starts others in the default way, as a training does.
    """
    default = multiprocessing.get_start_method()
    with ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_set_start_method,
        initargs=(default,),
    ) as pool:
        return pool.submit(function, *arguments).result()


def _set_start_method(name: str) -> None:
    multiprocessing.set_start_method(name, force=True)


@contextmanager
def counted() -> Iterator[Used]:
    """Count what the body of the ``with`` statement uses; the figures are set at its end."""
    used = Used()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before, cpu, started = psutil.Process().memory_info().rss, _cpu(), time.perf_counter()
    yield used
    used.seconds, used.cpu = time.perf_counter() - started, _cpu() - cpu
    used.growth = max(peak_resident() - before, 0)


def _cpu() -> float:
    return sum(os.times()[:4])
