"""Layers of rain streaks: lines that are blurred along and across their direction."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mprnet_lit.data.degradations.batched import correlate

_FRACTION_BITS = 4
"""Number of fractional bits of the coordinates that OpenCV draws with."""
_LINE_AREA, _LINE_SIGMA = 1.33, 0.52
"""Sum and standard deviation of the cross-section of OpenCV's anti-aliased line (measured)."""
_LINE_CAPS = 0.25
"""Sum of a short line along its direction, minus its length in pixels (measured)."""
_THINNEST = 0.6
"""Smallest standard deviation of the cross-section of a streak in pixels."""


class Look(NamedTuple):
    """Look of the streaks of a layer.

    Attributes:
        length: mean length in pixels.
        width: full width at half maximum in pixels.
        angle: mean angle to the vertical in degrees.
        spread: standard deviation of the angles in degrees.
        motion: fraction of the length that is motion blur, 0 to 1.
    """

    length: float
    width: float
    angle: float
    spread: float
    motion: float


class Layer(NamedTuple):
    """Layer of streaks before the blur.

    Attributes:
        canvas: lines of one pixel, (H + 2 * radius, W + 2 * radius) uint8.
        kernel: kernel of the blur, (2 * radius + 1, 2 * radius + 1) float32, scaled so that the
            center of a single opaque streak is 1.
    """

    canvas: NDArray[np.uint8]
    kernel: NDArray[np.float32]

    @property
    def radius(self) -> int:
        """Radius of the kernel in pixels."""
        return len(self.kernel) // 2

    def opacity(self) -> NDArray[np.float32]:
        """Blur the lines: opacity (H, W) float32 in [0, 1]."""
        canvas, kernel = (torch.from_numpy(array)[None, None] for array in self)
        opacity: NDArray[np.float32] = correlate(canvas.float(), kernel)[0, 0].clamp(0, 1).numpy()
        return opacity


def draw_layer(
    shape: tuple[int, int], density: float, look: Look, rng: np.random.Generator
) -> Layer:
    """Draw a layer of streaks.

    Args:
        shape: height and width of the image.
        density: streaks per megapixel.
        look: look of the streaks.
        rng: random generator.
    """
    blurred, drawn = look.length * look.motion, max(look.length * (1 - look.motion), 1.0)
    radius, sigma = kernel_radius(blurred, look.width), _sigma(look.width)
    kernel = _blur_kernel(blurred, np.sqrt(sigma**2 - _LINE_SIGMA**2), look.angle, radius)
    # Value at the center of a blurred opaque line.
    across = 255 * _LINE_AREA / (np.sqrt(2 * np.pi) * sigma)
    along = min(1, (drawn + _LINE_CAPS) / _extent(blurred, sigma))
    kernel /= np.float32(across * along)
    return Layer(_draw_lines(shape, density, drawn, look, radius, rng), kernel)


def kernel_radius(blurred: float, width: float) -> int:
    """Return the radius of the kernel of a layer in pixels.

    Args:
        blurred: length of the motion blur in pixels.
        width: full width at half maximum of the streaks in pixels.
    """
    return int(np.ceil(blurred / 2 + 2 * width)) + 1


def _sigma(width: float) -> float:
    return max(width / 2.355, _THINNEST)  # FWHM = 2.355 sigma


def _blur_kernel(length: float, sigma: float, angle: float, radius: int) -> NDArray[np.float32]:
    """Return a normal distribution of the distance to a segment that fades at its ends.

    The sum is 1. The profile along the segment is a parabola.
    """
    at = np.arange(-radius, radius + 1, dtype=np.float32)
    sine, cosine = np.float32(np.sin(np.deg2rad(angle))), np.float32(np.cos(np.deg2rad(angle)))
    along = np.abs(at * sine + at[:, None] * cosine)
    across = at * cosine - at[:, None] * sine
    inside = np.minimum(along, np.float32(length / 2))
    kernel: NDArray[np.float32] = np.exp(
        ((along - inside) ** 2 + across**2) * np.float32(-0.5 / sigma**2)
    )
    kernel *= 1 - (inside / np.float32(length / 2 + sigma)) ** 2
    kernel /= kernel.sum()
    return kernel


def _extent(length: float, sigma: float) -> float:
    """Return the integral along the segment of the kernel, relative to its value at the center."""
    faded = (length / (length + 2 * sigma)) ** 2  # at the ends of the segment
    return float(length * (1 - faded / 3) + np.sqrt(2 * np.pi) * sigma * (1 - faded))


def _draw_lines(
    shape: tuple[int, int],
    density: float,
    length: float,
    look: Look,
    radius: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw the lines of a layer: canvas (H + 2 * radius, W + 2 * radius) uint8."""
    # Maximum distance of the center of a visible streak from the image.
    reach = 0.6 * length + 0.5 * look.length * look.motion + 2 * look.width
    size = np.array(shape[::-1]) + 2 * reach
    count = rng.poisson(density * size.prod() / 1e6)
    middle = rng.random((count, 2)) * size - reach
    angles = np.deg2rad(rng.normal(look.angle, look.spread, count))
    half = 0.5 * length * rng.uniform(0.6, 1.2, count)
    offset = np.stack((np.sin(angles), np.cos(angles)), 1) * half[:, None]
    opacity = np.sort(rng.integers(120, 256, count))  # the brightest streaks are drawn last
    ends = np.stack((middle - offset, middle + offset), 1) + radius
    canvas = np.zeros((shape[0] + 2 * radius, shape[1] + 2 * radius), np.uint8)
    points = np.rint(ends * 2**_FRACTION_BITS).astype(int)
    for (start, end), value in zip(points.tolist(), opacity.tolist(), strict=True):
        cv2.line(canvas, start, end, value, 1, cv2.LINE_AA, _FRACTION_BITS)
    return canvas
