"""Image quality metrics."""

from mprnet_lit.metrics.quality import psnr, ssim

__all__ = ["psnr", "ssim"]
