"""Choose how DataLoader workers pass batches to the training process on this machine."""

import mmap
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

SHARED_MEMORY = Path("/dev/shm")
"""Mount point of shared memory and semaphores on Linux; other systems have no such folder."""
_ADVICE = "docker run --shm-size=2g gives a container more"
_SEMAPHORES = 8
"""Semaphores, each a page of memory, in the queues of a worker of the two loaders."""
_ROOM = 2**20
"""Bytes of shared memory beside the batches, for semaphores and the padding of pages."""
_LONGEST_FOLDER = 70
"""Characters of a temporary folder's path that leave room for a socket's name (107 in all)."""


class Handover(Enum):
    """Ways to pass a batch from a worker to the training process."""

    SHARED = "shared memory, as torch does"
    PIPE = "a copy through a pipe"
    NONE = "no worker processes"


class Choice(NamedTuple):
    """The way that was chosen, and the message for the user if it is not shared memory."""

    way: Handover
    reason: str | None = None


def choose(needed: int, workers: int, folder: Path = SHARED_MEMORY) -> Choice:
    """Return how workers can pass batches on this machine.

    Args:
        needed: bytes of all batches that are in memory at the same time.
        workers: number of worker processes.
        folder: mount point of the shared memory.
    """
    free = _free(folder)
    broken = _why_no_semaphores()
    if broken is None and free is not None and free < _SEMAPHORES * (workers + 4) * mmap.PAGESIZE:
        broken = f"{_size(free)} free"
    if broken is not None:
        return Choice(
            Handover.NONE,
            f"can't start data workers, as {folder} is not usable ({broken}): the training "
            f"process itself reads the images, which is slower; {_ADVICE}, and "
            "data.num_workers=0 avoids this message",
        )
    if free is not None and free < _ROOM + 1.5 * needed:
        return Choice(
            Handover.PIPE,
            f"{folder} has {_size(free)} free and the data workers' batches may take "
            f"{_size(needed)}: batches are sent through pipes, which is slower; {_ADVICE}, and "
            "fewer data.num_workers need less",
        )
    if not _sockets_work():
        return Choice(
            Handover.PIPE,
            "data workers can't make sockets in a temporary folder: batches are sent through "
            "pipes, which is slower; set TMPDIR to a folder with a short name that can be written",
        )
    return Choice(Handover.SHARED)


def as_arrays(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate items into a batch of arrays, which are sent through a pipe without shared memory."""
    return {
        name: np.stack([item[name].numpy() for item in items])
        if isinstance(value, torch.Tensor)
        else [item[name] for item in items]
        for name, value in items[0].items()
    }


def as_tensors(batch: Any) -> Any:
    """Return a batch with its arrays converted to tensors, without a copy."""
    if not isinstance(batch, dict):
        return batch
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in batch.items()}


def _why_no_semaphores() -> str | None:
    """Return why no semaphore can be made, which every queue needs; ``None`` if one can."""
    try:
        multiprocessing.get_context().Lock()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _free(folder: Path) -> int | None:
    """Return the free bytes of a folder's disk; ``None`` without such a folder."""
    try:
        found = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    return found.f_bavail * found.f_frsize


def _sockets_work() -> bool:
    """Tell whether workers can pass file descriptors, by sockets in the temporary folder."""
    try:
        return len(tempfile.gettempdir()) <= _LONGEST_FOLDER or os.name != "posix"
    except FileNotFoundError:  # neither TMPDIR nor another can be written
        return False


def _size(count: int) -> str:
    return f"{count / 1e6:.3g} MB"
