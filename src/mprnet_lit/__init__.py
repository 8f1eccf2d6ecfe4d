"""MPRNet (CVPR 2021) for image deblurring, denoising and deraining, on PyTorch Lightning."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mprnet_lit.inference import Restorer

__all__ = ["Restorer", "__version__"]
__version__ = "0.1.0"

# albumentations looks up its newest version over the network when imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def __getattr__(name: str) -> Any:
    """Import what takes seconds (torch) only when it is asked for."""
    if name == "Restorer":
        from mprnet_lit.inference import Restorer

        return Restorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
