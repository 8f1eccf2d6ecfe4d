"""MPRNet (CVPR 2021) for image deblurring, denoising and deraining, on PyTorch Lightning."""

import os
from typing import TYPE_CHECKING

from mprnet_lit.lazy import lazy

if TYPE_CHECKING:
    from mprnet_lit.inference import Restorer

__all__ = ["Restorer", "__version__"]
__version__ = "0.1.0"

# Unless told not to, albumentations looks up its newest version when imported, Ray reports use, and
# so does onnxruntime from 1.29 on, within a minute of running a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__ = lazy(__name__, {"Restorer": "inference"})  # torch takes seconds
