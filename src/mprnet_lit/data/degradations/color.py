"""sRGB transfer function (IEC 61966-2-1) and its inverse."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def srgb_to_linear(image: Image) -> Image:
    """Convert sRGB values, clipped to [0, 1], to linear light: float32 of the same shape."""
    image = np.clip(image, 0, 1)
    low, high = image / 12.92, ((image + 0.055) / 1.055) ** 2.4
    return np.where(image <= 0.04045, low, high).astype(np.float32)


def linear_to_srgb(light: Image) -> Image:
    """Convert linear light, clipped to [0, 1], to sRGB values: float32 of the same shape."""
    light = np.clip(light, 0, 1)
    low, high = light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, low, high).astype(np.float32)
