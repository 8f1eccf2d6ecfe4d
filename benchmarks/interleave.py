"""Times variants of one job, each in a process of its own, turn by turn.

Other load on the machine affects all variants alike, and each has the memory, threads and settings
of a user's process.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch

from mprnet_lit.utils.hardware import peak_resident

Job = Callable[[], Any]
Maker = Callable[[], Job]
"""Sets a variant up in its process and returns what is timed; picklable."""


@dataclass
class Figures:
    """A variant's seconds by round, of its set-up with the first round, and its peak memory."""

    seconds: list[float] = field(default_factory=list)
    setup: float = 0.0
    peak: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Return the range between the quartiles, as a share of the median."""
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / self.median


def interleave(makers: Mapping[str, Maker], rounds: int, warm_up: int = 1) -> dict[str, Figures]:
    """Run ``rounds`` rounds in which each variant has its turn; the first ``warm_up`` don't count.

    Peak memory is what the process grew by since it began to set up: on a GPU the tensors', else
    the resident memory's.
    """
    context = multiprocessing.get_context("spawn")
    figures = {name: Figures() for name in makers}
    ends: dict[str, Connection] = {}
    processes = []
    for name, maker in makers.items():
        ends[name], theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, maker), daemon=True)
        process.start()
        processes.append(process)
        theirs.close()
        figures[name].setup = ends[name].recv()  # one after the other
    for number in range(rounds + warm_up):
        for name, end in ends.items():
            end.send("go")
            seconds = end.recv()
            if number >= warm_up:
                figures[name].seconds.append(seconds)
    for name, end in ends.items():
        end.send("end")
        figures[name].peak = end.recv()
    for process in processes:
        process.join()
    return figures


def _serve(end: Connection, maker: Maker) -> None:
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    job = maker()
    job()
    _finish()
    end.send(time.perf_counter() - started)
    while end.recv() == "go":
        started = time.perf_counter()
        job()
        _finish()
        end.send(time.perf_counter() - started)
        torch.cuda.empty_cache()  # the others' turn; does nothing without a GPU
    if torch.cuda.is_initialized():
        end.send(torch.cuda.max_memory_allocated())
    else:
        end.send(peak_resident() - before)


def _finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
