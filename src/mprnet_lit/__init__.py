"""MPRNet (CVPR 2021) for image deblurring, denoising and deraining, on PyTorch Lightning."""

__version__ = "0.1.0"
