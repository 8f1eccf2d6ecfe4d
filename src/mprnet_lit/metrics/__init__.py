"""Image quality metrics and published evaluation protocols."""

from mprnet_lit.metrics.protocols import PROTOCOLS, Protocol, mean_scores
from mprnet_lit.metrics.quality import luma, psnr, ssim, ssim_volume
from mprnet_lit.metrics.realblur import realblur_scores

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "luma",
    "mean_scores",
    "psnr",
    "realblur_scores",
    "ssim",
    "ssim_volume",
]
