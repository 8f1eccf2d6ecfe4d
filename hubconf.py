"""Entry points of ``torch.hub.load``, from GitHub or from a local checkout."""

import sys
import typing
from pathlib import PurePath as _Path

sys.path.insert(0, str(_Path(__file__).parent / "src"))  # the package need not be installed

if typing.TYPE_CHECKING:
    from mprnet_lit import MPRNet, Restorer

dependencies = ["torch", "cv2", "filelock", "lazy_loader", "numpy", "PIL", "psutil", "safetensors"]
"""Modules that must be installed; ``torch.hub`` checks them."""


def mprnet(weights: str | None = None, size: str = "tiny") -> "MPRNet":
    """Build the network: (B, 3, H, W) in [0, 1] to three stages; H and W multiples of 8.

    Args:
        weights: name of shipped weights ("denoise", "deblur" or "derain"), path or address of a
            weights file, which determines the size; ``None`` for random weights.
        size: size of a network with random weights: "tiny", "small", "base" or "large".
    """
    from mprnet_lit import MPRNet

    return MPRNet.from_size(size) if weights is None else MPRNet.from_pretrained(weights)  # type: ignore[arg-type]


def restorer(weights: str = "denoise", **options: typing.Any) -> "Restorer":
    """Build a Restorer, which restores images of any size.

    Args:
        weights: name of shipped weights, or path or address of a weights file.
        options: arguments of :class:`mprnet_lit.Restorer`, such as ``tile=512``.
    """
    from mprnet_lit import Restorer

    return Restorer(weights, **options)
