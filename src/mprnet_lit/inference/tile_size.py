"""Tiles that fit in the free memory, and advice if a GPU runs out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mprnet_lit.inference.options import smallest_tile
from mprnet_lit.inference.tiling import starts
from mprnet_lit.models import SIZE_MULTIPLE, Size
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes, is_gpu_out_of_memory

# Memory of a forward pass, in units of full-size feature maps with width + orsnet_step channels,
# including convolution workspaces and the running sums of TLC. The measured growth of the
# resident set size on a CPU, from tiny to large, is 16 to 23 without TLC and 20 to 27 with TLC.
_MAPS, _MAPS_WITH_TLC = 24, 30
_SHARE = 0.5
"""Share of the free memory that tiles may use."""
_CPU_LIMIT = 1.5e9
"""Maximum memory of a tile on a CPU in bytes; larger tiles are not faster there."""
_MIN_SIDE = 64
"""Minimum side of a tile in pixels."""


def largest_tile(size: Size, budget: float, tlc: bool) -> int:
    """Return the side of the largest square tile that fits in ``budget`` bytes of memory.

    The side is a multiple of 8 and at least 64. The estimate assumes float32; mixed precision needs
    less memory.
    """
    maps = _MAPS_WITH_TLC if tlc else _MAPS
    per_pixel = maps * (size.width + size.orsnet_step) * 4
    side = int((budget / per_pixel) ** 0.5)
    return max(side // SIZE_MULTIPLE * SIZE_MULTIPLE, _MIN_SIDE)


def balanced(tile: int, overlap: int, *lengths: int) -> int:
    """Return the side of the smallest tiles whose number in each direction is that of ``tile``.

    Larger tiles would only overlap more. ``lengths`` are the height and width of the padded image.
    """
    counts = [len(starts(length, tile, overlap)) for length in lengths]
    for side in range(smallest_tile(overlap), tile, SIZE_MULTIPLE):
        if [len(starts(length, side, overlap)) for length in lengths] == counts:
            return side
    return tile


def band_bytes(images: int, rows: int, width: int) -> int:
    """Return the bytes of the float32 rows of unfinished tiles."""
    return 3 * images * rows * width * 4


def memory_budget(device: torch.device, memory_gb: float | None, held: float = 0) -> float:
    """Return the bytes that tiles may use; by default half of the free memory.

    Args:
        device: device of the tiles.
        memory_gb: memory limit in GB.
        held: bytes of images, results and unfinished rows on the device, for which the limit
            applies too.
    """
    if memory_gb is not None:
        return memory_gb * 1e9 - held
    share = _SHARE * (free_bytes(device) - held)
    return min(share, _CPU_LIMIT) if device.type == "cpu" else share


@contextmanager
def memory_errors(tile: int | str | None) -> Iterator[None]:
    """Add advice to an out-of-memory error of the GPU.

    Raises:
        UserError: the GPU ran out of memory in the block.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_gpu_out_of_memory(error):
            raise
        remedy = "a smaller memory_gb" if tile == "auto" else "tile='auto' or a smaller tile"
        raise UserError(f"out of GPU memory with tile={tile}: set {remedy}") from error
