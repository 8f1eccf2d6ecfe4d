"""MPRNet (CVPR 2021) for image deblurring, denoising and deraining, on PyTorch Lightning."""

import os
from typing import TYPE_CHECKING

import lazy_loader

from mprnet_lit.utils import deferred, deprecated

if TYPE_CHECKING:
    from mprnet_lit.inference.restorer import Restorer
    from mprnet_lit.models.mprnet import MPRNet
    from mprnet_lit.weights.io import load_weights

__all__ = ["MPRNet", "Restorer", "__version__", "load_weights"]
__version__ = "0.2.0"

# By default, albumentations checks for updates on import, and Ray, huggingface_hub and onnxruntime
# (1.29 or newer) send usage statistics.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Operations that torch lacks on Apple GPUs run on the CPU.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

deferred.install()
deprecated.install()
__getattr__, __dir__, _ = lazy_loader.attach(  # torch takes seconds to import
    __name__,
    submod_attrs={
        "inference.restorer": ["Restorer"],
        "models.mprnet": ["MPRNet"],
        "weights.io": ["load_weights"],
    },
)
