"""Timing of jobs by device events on a GPU, and by the clock on a CPU."""

import gc
import sys
import time
from collections.abc import Callable

import torch
from benchmarks.interleave import Figures, Job


def warm_up(rounds: int) -> range:
    """Return the untimed rounds after the first call: three, or fewer in a trial run."""
    return range(min(3, rounds // 2))


def measure(make: Callable[[], Job], device: torch.device, rounds: int) -> Figures:
    """Set up a job and time its rounds. The memory of an earlier job is freed first.

    The peak memory is that of the allocator during the rounds on a GPU, and 0 on a CPU. It excludes
    the intermediate tensors of a CUDA graph, which are allocated once before the rounds.
    """
    on_gpu = device.type == "cuda"
    gc.collect()
    if "torch._dynamo" in sys.modules:  # an earlier job was compiled
        torch.compiler.reset()
    if on_gpu:
        torch.cuda.empty_cache()
    started = time.perf_counter()
    job = make()
    job()
    synchronize(device)
    setup = time.perf_counter() - started
    for _ in warm_up(rounds):
        job()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [elapsed(job, device) for _ in range(rounds)]
    peak = float(torch.cuda.max_memory_allocated(device)) if on_gpu else 0.0
    return Figures(seconds, setup, peak)


def elapsed(job: Job, device: torch.device) -> float:
    """Return the seconds of one call of a job, from the device's start to its end."""
    if device.type != "cuda":
        started = time.perf_counter()
        job()
        return time.perf_counter() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    job()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def synchronize(device: torch.device) -> None:
    """Wait for a GPU; no effect on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
