"""What this machine does well: the precision it computes fast in, memory that is kept."""

import ctypes
import os
import platform
import sys
from pathlib import Path

import torch

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of glibc's mallopt


def training_device(accelerator: str) -> torch.device:
    """Return the device that ``trainer.accelerator`` means on this machine."""
    if accelerator == "cpu" or not torch.accelerator.is_available():
        return torch.device("cpu")
    found = torch.accelerator.current_accelerator()
    assert found is not None
    return found


def cores() -> int:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fast_precision(device: torch.device) -> tuple[str, str]:
    """Return the precision in which a device trains fast, and why.

    The precision is ``bf16-mixed`` or ``32-true``, never ``16-mixed``, which overflows.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bf16-mixed", f"{name} multiplies bfloat16 in its tensor cores"
        return "32-true", f"{name} has no tensor cores for bfloat16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_tile"):
            return "bf16-mixed", "this CPU multiplies bfloat16 in hardware"
        return "32-true", "this CPU has no instructions for bfloat16"
    return "32-true", f"bfloat16 was not tried on {device.type}"


def keep_freed_memory() -> bool:
    """Have the C library keep what a CPU's tensors free, for the next ones; tells whether it does.

    Blocks over 32 MB are otherwise given back to the system and come back page by page, each of
    them zeroed, which can take half of a training step; kept, they fragment, which takes more
    memory. Linux with glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def peak_resident() -> float:
    """Return the most bytes of memory that this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # the other figure is, on Linux, at least that of the parent process
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return float(line.split()[1]) * 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024.0
    )
