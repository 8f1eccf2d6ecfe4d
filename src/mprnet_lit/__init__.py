"""MPRNet (CVPR 2021) for image deblurring, denoising and deraining, on PyTorch Lightning."""

import os
from typing import TYPE_CHECKING

from mprnet_lit.lazy import lazy

if TYPE_CHECKING:
    from mprnet_lit.inference import Restorer

__all__ = ["Restorer", "__version__"]
__version__ = "0.1.0"

# albumentations looks up its newest version over the network when imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


__getattr__ = lazy(__name__, {"Restorer": "inference"})  # torch takes seconds
