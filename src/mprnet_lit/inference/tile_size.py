"""How much memory the network needs for a tile, and how much there is."""

from pathlib import Path

import psutil
import torch

from mprnet_lit.models import SIZE_MULTIPLE, Size

# How many full-size feature maps of width C+O a forward pass holds at once, scratch space of the
# convolutions included; with TLC, its running sums too. Measured as the growth of resident memory
# on a CPU: 16 to 23 without TLC, 20 to 27 with it, from tiny to large.
_MAPS, _MAPS_WITH_TLC = 24, 30
_SHARE = 0.5
"""Of the free memory, what tiles may take."""
_CPU_BOUND = 1.5e9
"""On a CPU larger tiles bring no speed; the rest of the memory is for the photo."""
_SMALLEST = 64


def free_bytes(device: torch.device) -> float:
    """Return the free memory of a device; on a CPU within what the process's group may have."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + idle)  # what torch keeps, it uses again
    free = float(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # containers; psutil sees the whole machine
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):
        return free
    return free if limit == "max" else min(free, float(int(limit) - used + cached))


def largest_tile(size: Size, budget: float, tlc: bool) -> int:
    """Return the largest side of a square tile, a multiple of 8, that fits ``budget`` bytes.

    At least 64. Mixed precision takes less; this reckons with float32.
    """
    maps = _MAPS_WITH_TLC if tlc else _MAPS
    per_pixel = maps * (size.width + size.orsnet_step) * 4
    side = int((budget / per_pixel) ** 0.5)
    return max(side // SIZE_MULTIPLE * SIZE_MULTIPLE, _SMALLEST)


def budget(device: torch.device, memory_gb: float | None) -> float:
    """Return the bytes that tiles may take: ``memory_gb``, or a share of what is free."""
    if memory_gb is not None:
        return memory_gb * 1e9
    share = _SHARE * free_bytes(device)
    return min(share, _CPU_BOUND) if device.type == "cpu" else share
