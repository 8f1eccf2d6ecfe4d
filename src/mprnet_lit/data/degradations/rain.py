"""Synthetic rain streaks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.utils.checks import require_generator, require_image

_FRACTION_BITS = 4
"""Number of fractional bits of the coordinates that OpenCV draws with."""
_LINE_AREA, _LINE_SIGMA = 1.33, 0.52
"""Sum and standard deviation of the cross-section of OpenCV's anti-aliased line (measured)."""
_SKY = 0.85
"""Gray level of the haze, sRGB in [0, 1]."""


class RainStreaks(Degradation):
    """Rain streaks in several depth layers, as in the synthetic deraining data sets.

    Near layers have few long, wide and bright streaks, far layers many short, thin and faint ones.
    All streaks fall at similar angles. The result is the screen blend ``image + (1 - image) *
    streaks`` of sRGB values (Luo et al., ICCV 2015), as in the data sets. Streaks that start
    outside of the image are included, so that ``margin`` is 0.

    Args:
        layers: number of layers, 1 to 10; streaks shrink by the factor 0.6 from layer to layer.
        density: streaks per megapixel in the nearest layer, at most 1e6; farther layers have more.
        length: length of a streak in the nearest layer in pixels, 1 to 1000.
        width: full width at half maximum of a streak in the nearest layer in pixels, 1 to 50.
        angle: angle between the streaks and the vertical in degrees, 0 to 90; its sign is random.
        brightness: maximum brightness of a streak in the nearest layer, 0 to 1.
        haze: opacity of a uniform gray haze, 0 to 1; 0 by default, as in Rain100 and most of
            Rain13K.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(
        self,
        layers: Range = (1, 3),
        density: Range = (300, 1800),
        length: Range = (25, 80),
        width: Range = (1.5, 3),
        angle: Range = (0, 30),
        brightness: Range = (0.3, 0.8),
        haze: Range = 0,
    ) -> None:
        self.layers = checked_range(self, "layers", layers, low=1, high=10)
        self.density = checked_range(self, "density", density, high=1e6)
        self.length = checked_range(self, "length", length, low=1, high=1000)
        self.width = checked_range(self, "width", width, low=1, high=50)
        self.angle = checked_range(self, "angle", angle, high=90)
        self.brightness = checked_range(self, "brightness", brightness, high=1)
        self.haze = checked_range(self, "haze", haze, high=1)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add rain and haze; the result is in [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        streaks = self._streaks(image.shape[0], image.shape[1], rng)[..., None]
        haze = np.float32(rng.uniform(*self.haze))
        veiled = np.clip(image, 0, 1, order="C") * (1 - haze) + haze * np.float32(_SKY)
        return np.clip(veiled + (1 - veiled) * streaks, 0, 1)

    def _streaks(self, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the streaks of all layers: (H, W) float32 in [0, 1]."""
        wind = rng.uniform(*self.angle) * rng.choice([-1, 1])
        density, length = rng.uniform(*self.density), rng.uniform(*self.length)
        streak_width = rng.uniform(*self.width)
        total = np.zeros((height, width), np.float32)
        fewest, most = np.rint(self.layers).astype(int)
        for depth in range(rng.integers(fewest, most, endpoint=True)):
            near = 0.6**depth
            brightness = np.float32(rng.uniform(*self.brightness) * near)
            layer = _layer(
                (height, width), density / near, length * near, streak_width * near, wind, rng
            )
            total += (1 - total) * brightness * layer
        return total


def _layer(
    shape: tuple[int, int],
    density: float,
    length: float,
    width: float,
    wind: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw the streaks of one layer: opacity (H, W) float32 in [0, 1].

    ``density`` is in streaks per megapixel, ``wind`` is the mean angle in degrees, and the other
    arguments are in pixels.
    """
    # Maximum distance of the center of a visible streak from the image.
    reach = 0.6 * length + 2 * width
    size = np.array(shape[::-1]) + 2 * reach
    count = rng.poisson(density * size.prod() / 1e6)
    middle = rng.random((count, 2)) * size - reach
    angle = np.deg2rad(wind + rng.normal(0, 2, count))
    half = 0.5 * length * rng.uniform(0.6, 1.2, count)
    offset = np.stack((np.sin(angle), np.cos(angle)), 1) * half[:, None]
    opacity = np.sort(rng.integers(120, 256, count))  # the brightest streaks are drawn last
    # The padding avoids border effects of the line clipping and of the blur.
    pad = int(np.ceil(2 * width)) + 1
    ends = np.stack((middle - offset, middle + offset), 1) + pad
    canvas = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), np.uint8)
    points = np.rint(ends * 2**_FRACTION_BITS).astype(int)
    for (start, end), value in zip(points.tolist(), opacity.tolist(), strict=True):
        cv2.line(canvas, start, end, value, 1, cv2.LINE_AA, _FRACTION_BITS)
    # Blur to the width (FWHM = 2.355 sigma), and scale the center back to its opacity.
    sigma = max(width / 2.355, 0.6)
    blur = np.sqrt(sigma**2 - _LINE_SIGMA**2)
    soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), blur)[pad:-pad, pad:-pad]
    peak = 255 * _LINE_AREA / (np.sqrt(2 * np.pi) * sigma)
    streaks: NDArray[np.float32] = np.minimum(soft / np.float32(peak), 1)
    return streaks
