"""The sRGB transfer function (IEC 61966-2-1), so that light can be added up as light."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def srgb_to_linear(image: Image) -> Image:
    """Turn sRGB in [0, 1] into linear light in [0, 1]; same shape, float32."""
    image = np.clip(image, 0, 1)
    low, high = image / 12.92, ((image + 0.055) / 1.055) ** 2.4
    return np.where(image <= 0.04045, low, high).astype(np.float32)


def linear_to_srgb(light: Image) -> Image:
    """Turn linear light into sRGB in [0, 1]; same shape, float32. What exceeds 1 is clipped."""
    light = np.clip(light, 0, 1)
    low, high = light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, low, high).astype(np.float32)
