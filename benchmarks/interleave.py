"""Time variants of a job in interleaved rounds, each variant in a separate process.

Interleaving spreads the effect of other load evenly over the variants. Separate processes give each
variant its own memory, threads and settings.
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
"""Picklable function that sets up a variant in its process and returns the job to time."""


@dataclass
class Figures:
    """Seconds per round, seconds of the setup including the first job, and peak memory in bytes."""

    seconds: list[float] = field(default_factory=list)
    setup: float = 0.0
    peak: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Return the interquartile range divided by the median."""
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / self.median


def interleave(makers: Mapping[str, Maker], rounds: int, warm_up: int = 1) -> dict[str, Figures]:
    """Run every variant once per round, for ``warm_up`` untimed and ``rounds`` timed rounds.

    Peak memory is the allocated memory on a GPU. On a CPU, it is the growth of the resident memory
    since the start of the setup.
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
        figures[name].setup = ends[name].recv()  # one variant at a time
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


def time_jobs(jobs: Mapping[str, Job], rounds: int) -> dict[str, Figures]:
    """Time jobs in interleaved rounds in this process, after one untimed round."""
    figures = {name: Figures() for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if number:
                figures[name].seconds.append(time.perf_counter() - started)
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
        torch.cuda.empty_cache()  # frees memory for the other variants; no effect on a CPU
    if torch.cuda.is_initialized():
        end.send(torch.cuda.max_memory_allocated())
    else:
        end.send(peak_resident() - before)


def _finish() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
