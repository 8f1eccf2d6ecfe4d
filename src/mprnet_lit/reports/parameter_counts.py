"""Number of parameters of the network of a run without a recorded count."""

from functools import cache
from typing import Any

_SIZE = ("width", "unet_step", "orsnet_step", "cabs_per_orb", "reduction")
_MAX_WIDTH, _MAX_CABS = 4096, 64
"""Maximum width and number of blocks of networks whose parameters are counted."""


def count_parameters(config: dict[str, Any]) -> int | None:
    """Return the number of parameters of a network; ``None`` if its size is invalid.

    Networks of the same size are counted once, because building a network takes about 20 ms.

    Args:
        config: configuration of the run by dotted key.
    """
    sizes: dict[str, Any] = {name: config.get(f"model.{name}") for name in _SIZE}
    if not all(type(v) is int and 0 < v <= _MAX_WIDTH for v in sizes.values()):
        return None
    return _count(**sizes) if sizes["cabs_per_orb"] <= _MAX_CABS else None


@cache
def _count(**sizes: int) -> int | None:
    import torch  # takes two seconds; only runs without a recorded count need it

    from mprnet_lit.models import MPRNet

    try:
        with torch.device("meta"):  # allocates no memory
            model = MPRNet(**sizes)
        return sum(p.numel() for p in model.parameters())
    except (ValueError, RuntimeError):  # not a valid network
        return None
