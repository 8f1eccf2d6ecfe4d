"""Number of video frames that a GPU restores at once."""

from mprnet_lit.inference.restorer import Restorer
from mprnet_lit.inference.tile_size import largest_tile, memory_budget
from mprnet_lit.models.padding import padded_length

_MOST = 8
_PIXELS = 5_000_000
"""Maximum number of pixels of a batch of several frames. Larger batches do not restore faster."""


def frames_at_once(restorer: Restorer, height: int, width: int) -> int:
    """Return the largest number of frames of a batch, at most 8, that needs no tiles.

    It is 1 on a CPU, for an exported network, and if ``restorer.tile`` is not ``"auto"``, because
    the memory for several frames is then unknown.

    Args:
        restorer: restorer of the frames.
        height: height of the frames in pixels.
        width: width of the frames in pixels.
    """
    on_gpu = restorer.device.type != "cpu" and restorer.runtime == "torch"
    if not on_gpu or restorer.tile != "auto":
        return 1
    rows, columns = padded_length(height), padded_length(width)
    for frames in range(min(_MOST, _PIXELS // (rows * columns)), 1, -1):
        budget = memory_budget(restorer.device, restorer.memory_gb)
        per_tile = max(budget, 0) / (restorer.tile_batch * frames)
        if rows * columns <= largest_tile(restorer.size, per_tile, restorer.crop is not None) ** 2:
            return frames
    return 1
