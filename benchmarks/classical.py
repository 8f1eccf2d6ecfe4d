"""Classical restoration methods, for comparison with the shipped weights.

The arguments of each method are the degraded image, a strength and :class:`Known`. The methods for
noise and blur use the true noise level (for camera noise, an estimate) or the true blur kernel,
which users rarely know. Images are (H, W, 3), float64 and sRGB in [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from skimage import restoration

from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear

Image = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """Known degradation: standard deviation of the noise (white is 1) or blur kernel."""

    sigma: float = 0.0
    kernel: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Method:
    """Method and the strengths to try. The benchmark reports the best strength for each case."""

    run: Callable[[Image, float, Known], Image]
    strengths: Sequence[float]


def non_local_means(image: Image, strength: float, known: Known) -> Image:
    restored: Image = restoration.denoise_nl_means(
        image, patch_size=5, patch_distance=7, h=strength * known.sigma, sigma=known.sigma,
        fast_mode=True, channel_axis=-1,
    )  # fmt: skip
    return restored


def total_variation(image: Image, strength: float, known: Known) -> Image:
    weight = strength * known.sigma
    restored: Image = restoration.denoise_tv_chambolle(image, weight=weight, channel_axis=-1)
    return restored


def wavelet(image: Image, strength: float, known: Known) -> Image:
    """Denoise by BayesShrink in YCbCr, averaged over nine shifts."""
    restored: Image = restoration.cycle_spin(
        image, restoration.denoise_wavelet, max_shifts=2, channel_axis=-1,
        func_kw={"sigma": strength * known.sigma, "convert2ycbcr": True, "rescale_sigma": True,
                 "method": "BayesShrink", "channel_axis": -1},
    )  # fmt: skip
    return restored


def block_matching(image: Image, strength: float, known: Known) -> Image:
    from bm3d import bm3d_rgb

    restored: Image = bm3d_rgb(image, strength * known.sigma)
    return restored


def wiener(image: Image, strength: float, known: Known) -> Image:
    return _in_linear_light(
        image, known, lambda plane, psf: restoration.wiener(plane, psf, strength, clip=False)
    )


def richardson_lucy(image: Image, strength: float, known: Known) -> Image:
    return _in_linear_light(
        image,
        known,
        lambda plane, psf: restoration.richardson_lucy(np.maximum(plane, 1e-6), psf, int(strength)),
    )


def _in_linear_light(
    image: Image, known: Known, deconvolve: Callable[[Image, NDArray[np.float32]], Image]
) -> Image:
    """Deconvolve each color channel in linear light, with reflection padding as in the blur."""
    assert known.kernel is not None
    pad = 2 * known.kernel.shape[0]
    light = srgb_to_linear(image.astype(np.float32)).astype(float)
    padded = np.pad(light, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    planes = [deconvolve(padded[..., color], known.kernel) for color in range(3)]
    kept = np.stack(planes, -1)[pad:-pad, pad:-pad]
    return linear_to_srgb(kept.clip(0, 1).astype(np.float32)).astype(float)


def median(image: Image, strength: float, known: Known) -> Image:
    side = int(strength)
    filtered: Image = median_filter(image, size=(side, side, 1))
    return filtered


def row_median(image: Image, strength: float, known: Known) -> Image:
    """Apply a median filter along the rows, which are perpendicular to the streaks."""
    filtered: Image = median_filter(image, size=(1, int(strength), 1))
    return filtered


def guided(image: Image, strength: float, known: Known) -> Image:
    """Apply the guided filter (He et al., ECCV 2010) to each channel, with 9x9 windows."""

    def mean(x: Image) -> Image:
        return np.asarray(cv2.blur(x, (9, 9)), dtype=float)

    average = mean(image)
    variance = mean(image * image) - average * average
    slope = variance / (variance + strength)
    return mean(slope) * image + mean(average - slope * average)


DENOISING = {
    "non-local means": Method(non_local_means, (0.2, 0.3, 0.4, 0.6, 0.8)),
    "total variation": Method(total_variation, (0.4, 0.6, 0.8, 1.0, 1.3, 1.7)),
    "wavelet": Method(wavelet, (0.6, 0.8, 1.0, 1.2)),
    "BM3D": Method(block_matching, (1.0,)),
}
METHODS = {
    "denoise": DENOISING,
    # The noise level is an estimate and varies over the image.
    "camera": {**DENOISING, "BM3D": Method(block_matching, (1.0, 1.4, 2.0))},
    "deblur": {
        "Wiener, true kernel": Method(wiener, (1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)),
        "Richardson-Lucy, true kernel": Method(richardson_lucy, (1, 2, 3, 5, 10, 20)),
    },
    "derain": {
        "median": Method(median, (3, 5, 7)),
        "median along rows": Method(row_median, (5, 9, 15)),
        "guided filter": Method(guided, (1e-3, 3e-3, 1e-2, 3e-2)),
    },
}
