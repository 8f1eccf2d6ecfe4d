"""MPRNet (CVPR 2021) for image deblurring, denoising and deraining, on PyTorch Lightning."""

import os

__version__ = "0.1.0"

# albumentations looks up its newest version over the network when imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
