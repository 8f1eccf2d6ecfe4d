"""Copies and reductions that do not make the host wait for a GPU."""

from typing import Any

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device. A copy to a CUDA device is pinned and asynchronous."""
    if device.type == "cuda" and tensor.is_cpu:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def largest(tensor: Tensor) -> Tensor:
    """Replace the values of a tensor by their maxima over all processes, and return the tensor.

    ``Strategy.reduce`` of Lightning has a barrier, in which the host waits.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return tensor


class HostCopy:
    """Copy of a tensor to the host. A copy from a CUDA device runs in the background.

    Args:
        tensor: tensor on any device. It must not change until the copy has been read.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host = tensor.to("cpu", non_blocking=tensor.is_cuda)  # allocates pinned memory
        stream = torch.cuda.current_stream(tensor.device) if tensor.is_cuda else None
        self._copied = None if stream is None else stream.record_event()

    def wait(self) -> Tensor:
        """Wait for the end of the copy, and return it."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._host

    def tolist(self) -> Any:
        """Wait for the end of the copy, and return its values."""
        return self.wait().tolist()
