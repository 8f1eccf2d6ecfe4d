"""Transfer of batches from DataLoader workers to the training process."""

import mmap
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHARED_MEMORY = Path("/dev/shm")
"""Mount point of shared memory and semaphores on Linux; absent on other systems."""
_ADVICE = "give a container more shared memory with docker run --shm-size=2g"
_BATCHES_PER_WORKER = 3
"""Batches in memory per worker: two prefetched and one in use."""
_BYTES_PER_PIXEL = 2 * 3 * 4
"""Bytes per pixel of a batch: two images of three float32 channels."""
_SEMAPHORES = 8
"""Semaphores per worker in the queues of both loaders; each takes one page of memory."""
_RESERVED = 2**20
"""Bytes of shared memory for semaphores and page padding, in addition to the batches."""
_MAX_FOLDER_LENGTH = 70
"""Maximum length of the path of the temporary folder; a socket path has at most 107 characters."""


class Transfer(Enum):
    """Ways to transfer a batch from a worker to the training process."""

    SHARED = "shared memory, the default of torch"
    PIPE = "a copy through a pipe"
    NONE = "no worker processes"


def batches_bytes(workers: int, pixels: int) -> int:
    """Return the size in bytes of all batches that are in memory at the same time.

    Args:
        workers: number of worker processes.
        pixels: number of pixels of a batch of each loader, in total.
    """
    return _BATCHES_PER_WORKER * workers * pixels * _BYTES_PER_PIXEL


def choose_transfer(
    needed: int, workers: int, folder: Path = SHARED_MEMORY
) -> tuple[Transfer, str | None]:
    """Choose the transfer of batches that works on this machine.

    Args:
        needed: size in bytes of all batches that are in memory at the same time.
        workers: number of worker processes.
        folder: mount point of the shared memory.

    Returns:
        Transfer, and a warning for the user unless the transfer is the default of torch.
    """
    free, problem = _free(folder), None
    if free is not None and free < _SEMAPHORES * (workers + 4) * mmap.PAGESIZE:
        problem = f"{_mb(free)} free"
    try:
        multiprocessing.get_context().Lock()
    except OSError as error:
        problem = error.strerror or str(error)
    if problem is not None:
        return (
            Transfer.NONE,
            f"can't start DataLoader workers, because {folder} is not usable ({problem}): the "
            f"training process reads the images itself, which is slower; {_ADVICE}, or "
            "set num_workers=0 to avoid this message",
        )
    if free is not None and free < _RESERVED + 1.5 * needed:
        return (
            Transfer.PIPE,
            f"{folder} has {_mb(free)} free, but the batches of the DataLoader workers may take "
            f"{_mb(needed)}: batches are sent through pipes, which is slower; {_ADVICE}, or "
            "set a smaller num_workers",
        )
    if not _sockets_work():
        return (
            Transfer.PIPE,
            "DataLoader workers can't create sockets in the temporary folder: batches are sent "
            "through pipes, which is slower; set TMPDIR to a writable folder with a short path",
        )
    return Transfer.SHARED, None


def as_arrays(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate items into a batch of arrays, which a pipe transfers without shared memory."""
    return {name: _collated([item[name] for item in items]) for name in items[0]}


def _collated(values: list[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return np.stack([value.numpy() for value in values])
    return as_arrays(values) if isinstance(values[0], dict) else values


def _free(folder: Path) -> int | None:
    """Return the free bytes of the file system of a folder; ``None`` if the folder is missing."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _sockets_work() -> bool:
    """Return whether workers can pass file descriptors by sockets in the temporary folder."""
    try:
        return len(tempfile.gettempdir()) <= _MAX_FOLDER_LENGTH or os.name != "posix"
    except FileNotFoundError:  # no temporary folder is writable
        return False


def _mb(count: int) -> str:
    return f"{count / 1e6:.3g} MB"
