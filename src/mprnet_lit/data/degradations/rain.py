"""Rain streaks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range

_FRACTION_BITS = 4
"""OpenCV draws with this many bits of sub-pixel position."""


class RainStreaks(Degradation):
    """Streaks of falling drops in several layers of depth, as in the synthetic deraining sets.

    Near layers hold few, long, wide and blurred streaks, far ones many short, thin and faint ones;
    all fall at about the wind's angle. A streak adds light without exceeding white: the result is
    image + (1 - image) streaks, which is screen blending (Luo et al., ICCV 2015). Like the data
    sets, the whole is done on sRGB values.

    Args:
        layers: number of layers, from the nearest.
        density: drops per megapixel and layer, the nearest layer; each further one holds more.
        length: of a streak in pixels in the nearest layer.
        angle: of the wind, in degrees from the vertical; the side is drawn.
        brightness: of a streak's middle, 0 to 1.

    Raises:
        UserError: a range is out of order or out of bounds.
    """

    def __init__(
        self,
        layers: Range = (1, 3),
        density: Range = (400, 3000),
        length: Range = (25, 80),
        angle: Range = (0, 30),
        brightness: Range = (0.4, 0.9),
    ) -> None:
        self.layers = checked_range(self, "layers", layers, low=1, high=10)
        self.density = checked_range(self, "density", density, high=1e6)
        self.length = checked_range(self, "length", length, low=1, high=1000)
        self.angle = checked_range(self, "angle", angle, high=90)
        self.brightness = checked_range(self, "brightness", brightness, high=1)
        self.margin = int(np.ceil(self.length[1] / 2))

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Let it rain; the result is in [0, 1] and nowhere darker than the image."""
        clean = np.clip(image, 0, 1)
        return clean + (1 - clean) * self._streaks(image.shape[0], image.shape[1], rng)[..., None]

    def _streaks(self, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the light that the streaks add: (H, W) in [0, 1]."""
        wind = rng.uniform(*self.angle) * rng.choice([-1, 1])
        density, length = rng.uniform(*self.density), rng.uniform(*self.length)
        total = np.zeros((height, width), np.float32)
        for depth in range(round(rng.uniform(*self.layers))):
            nearness = 0.6**depth
            layer = self._layer(
                (height, width), density / nearness, length * nearness, wind, depth, rng
            )
            brightness = np.float32(rng.uniform(*self.brightness) * nearness)
            total = total + (1 - total) * brightness * layer
        return total

    def _layer(
        self,
        shape: tuple[int, int],
        density: float,
        length: float,
        wind: float,
        depth: int,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Draw one layer's streaks: (H, W) in [0, 1]."""
        height, width = shape
        reach = length / 2 + 2  # drops just outside reach in
        area = (height + 2 * reach) * (width + 2 * reach)
        count = rng.poisson(density * area / 1e6)
        middle = rng.uniform([-reach, -reach], [width + reach, height + reach], (count, 2))
        angle = np.deg2rad(wind + rng.normal(0, 2, count))
        half = 0.5 * length * rng.uniform(0.6, 1.2, count)
        offset = np.stack((np.sin(angle), np.cos(angle)), 1) * half[:, None]
        ends = np.stack((middle - offset, middle + offset), 1)
        canvas = np.zeros(shape, np.uint8)
        opacity = rng.integers(120, 256, count)
        order = np.argsort(opacity)  # the brightest last, on top
        points = np.rint(ends * 2**_FRACTION_BITS).astype(int)[order]
        for (start, end), value in zip(points.tolist(), opacity[order].tolist(), strict=True):
            cv2.line(canvas, start, end, value, 1, cv2.LINE_AA, _FRACTION_BITS)
        blur = 0.5 + 0.4 / (1 + depth)
        soft = cv2.GaussianBlur(canvas, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
        return soft.reshape(shape).astype(np.float32) / np.float32(255)
