"""Hardware: device, CPU cores, fast precision and memory of this machine."""

import ctypes
import os
import platform
import sys
from pathlib import Path

import psutil
import torch

# Parameters of glibc's mallopt.
_ARENA_MAX, _MMAP_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -4, -3, -1
_LARGE_BLOCK = 4 * 2**20


def training_device(accelerator: str) -> torch.device:
    """Return the device for an accelerator of ``lightning.Trainer``, such as ``auto``."""
    if accelerator == "cpu" or not torch.accelerator.is_available():
        return torch.device("cpu")
    found = torch.accelerator.current_accelerator()
    assert found is not None
    return found


def cores() -> int:
    """Return the number of CPU cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def core_share(devices: int = 1) -> tuple[int, str]:
    """Return the number of CPU cores for this process, and the reason.

    The cores of a machine are shared by the processes on it: the largest of ``devices`` (processes
    that the Trainer starts on it), ``LOCAL_WORLD_SIZE`` (torchrun) and ``SLURM_NTASKS_PER_NODE``.
    A process that SLURM binds to fewer cores than the job has on the machine keeps its own.

    Args:
        devices: number of devices of the Trainer on this machine.
    """
    own = cores()
    here = max(devices, _count("LOCAL_WORLD_SIZE"), _count("SLURM_NTASKS_PER_NODE"))
    share = min(own, max(own, _count("SLURM_CPUS_ON_NODE")) // here)
    if here == 1:
        return share, f"{own} CPU cores"
    return share, f"{share} CPU cores for each of the {here} processes on this machine"


def _count(variable: str) -> int:
    """Return a number in an environment variable; 0 if it is missing or not a number."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 0


def fast_precision(device: torch.device) -> tuple[str, str]:
    """Return the fast training precision of a device (``bf16-mixed`` or ``32-true``) and a reason.

    float16 is never chosen, because it overflows easily and requires loss scaling.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bf16-mixed", f"{name} has bfloat16 tensor cores"
        return "32-true", f"{name} has no bfloat16 tensor cores"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_tile"):
            return "bf16-mixed", "this CPU has bfloat16 instructions"
        return "32-true", "this CPU has no bfloat16 instructions"
    return "32-true", f"bfloat16 is untested on {device.type}"


def free_bytes(device: torch.device) -> float:
    """Return the free memory of a device in bytes.

    On a CPU, the limit of the control group (cgroup) of the process applies.
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + idle)  # torch reuses its cache
    free = float(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # limit of a container, which psutil ignores
    try:
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        if limit == "max":
            return free
        used = int((group / "memory.current").read_text(encoding="utf-8"))
        lines = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
        stat = dict(line.split() for line in lines)
        cached = int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):
        return free
    return max(min(free, float(int(limit) - used + cached)), 0.0)


def keep_freed_memory() -> bool:
    """Make glibc reuse the freed memory of CPU tensors, and return whether that is supported.

    By default, glibc returns blocks over 32 MB to the system, which zeroes each page on the next
    allocation. The zeroing can take half of a training step. Reuse increases fragmentation and thus
    the peak memory. Threads that start later get no heap of their own, because glibc can't trim the
    ends of such heaps. Only Linux with glibc is supported.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1)
    return bool(min(library.mallopt(*setting) for setting in settings))


def return_freed_memory() -> bool:
    """Undo :func:`keep_freed_memory` for blocks over 4 MB, and return whether that is supported.

    A forked data worker, which inherits the setting, would keep the memory of the largest image
    that it has ever decoded.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = (_MMAP_MAX, 2**16), (_MMAP_THRESHOLD, _LARGE_BLOCK), (_TRIM_THRESHOLD, _LARGE_BLOCK)
    return bool(min(library.mallopt(*setting) for setting in settings))


def trim_memory() -> bool:
    """Return the unused pages of the heap to the system, and return whether that is supported.

    glibc keeps the freed memory of blocks up to 32 MB, or of all blocks after
    :func:`keep_freed_memory`. The pages in use between them prevent the reuse for larger blocks.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))


def is_gpu_out_of_memory(error: BaseException) -> bool:
    """Return whether a GPU ran out of memory, for which torch has an exception only on CUDA."""
    texts = ("CUDA error: out of memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def peak_resident() -> float:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss includes the peak of the parent process
        line = next(
            x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM:")
        )
        return float(line.split()[1]) * 1024
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset)
    import resource  # not available on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024.0
    )
