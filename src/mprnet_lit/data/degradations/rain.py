"""Rain streaks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.utils.checks import require_generator, require_image

_FRACTION_BITS = 4
"""OpenCV draws with this many bits of sub-pixel position."""
_LINE_AREA, _LINE_SIGMA = 1.33, 0.52
"""Light per pixel of length, and spread across, of OpenCV's anti-aliased line (measured)."""
_SKY = 0.85
"""The grey that haze fades to, sRGB."""


class RainStreaks(Degradation):
    """Streaks of falling drops in several layers of depth, as in the synthetic deraining sets.

    Near layers hold few, long, wide and blurred streaks, far ones many short, thin and faint ones;
    all fall at about the wind's angle. A streak adds light without exceeding white: the result is
    image + (1 - image) streaks, which is screen blending (Luo et al., ICCV 2015). Like the data
    sets, the whole is done on sRGB values. Streaks that start outside the image reach in, so no
    margin is wanted.

    Args:
        layers: number of layers, from the nearest; each is 0.6 times as near as the one before.
        density: drops per megapixel in the nearest layer; each further one holds more.
        length: of a streak in pixels in the nearest layer.
        width: of a streak in pixels at half its brightness in the nearest layer.
        angle: of the wind, in degrees from the vertical; the side is drawn.
        brightness: of a streak's middle, 0 to 1, in the nearest layer.
        haze: share of the image's light that is lost to an even grey veil, 0 to 1; none by
            default, as in Rain100 and most of Rain13K.

    Raises:
        UserError: a range is out of order or out of bounds.
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
        """Let it rain; the result is in [0, 1] and, without haze, nowhere darker than the image."""
        require_image(image)
        require_generator(rng)
        streaks = self._streaks(image.shape[0], image.shape[1], rng)[..., None]
        haze = np.float32(rng.uniform(*self.haze))
        veiled = np.clip(image, 0, 1, order="C") * (1 - haze) + haze * np.float32(_SKY)
        return np.clip(veiled + (1 - veiled) * streaks, 0, 1)

    def _streaks(self, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the light that the streaks add: (H, W) in [0, 1]."""
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
    """Draw one layer's streaks: (H, W) in [0, 1]. ``wind`` is in degrees from the vertical."""
    reach = 0.6 * length + 2 * width  # drops just outside reach in
    size = np.array(shape[::-1]) + 2 * reach
    count = rng.poisson(density * size.prod() / 1e6)
    middle = rng.random((count, 2)) * size - reach
    angle = np.deg2rad(wind + rng.normal(0, 2, count))
    half = 0.5 * length * rng.uniform(0.6, 1.2, count)
    offset = np.stack((np.sin(angle), np.cos(angle)), 1) * half[:, None]
    opacity = np.sort(rng.integers(120, 256, count))  # the brightest last, on top
    # Drawn beyond the borders, where OpenCV would dim what it cuts off and the blur reaches.
    pad = int(np.ceil(2 * width)) + 1
    ends = np.stack((middle - offset, middle + offset), 1) + pad
    canvas = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), np.uint8)
    points = np.rint(ends * 2**_FRACTION_BITS).astype(int)
    for (start, end), value in zip(points.tolist(), opacity.tolist(), strict=True):
        cv2.line(canvas, start, end, value, 1, cv2.LINE_AA, _FRACTION_BITS)
    # Blurred to the width, a half maximum's 2.355 sigma, and scaled back to the middle's opacity.
    sigma = max(width / 2.355, 0.6)
    blur = np.sqrt(sigma**2 - _LINE_SIGMA**2)
    soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), blur)[pad:-pad, pad:-pad]
    peak = 255 * _LINE_AREA / (np.sqrt(2 * np.pi) * sigma)
    streaks: NDArray[np.float32] = np.minimum(soft / np.float32(peak), 1)
    return streaks
