"""Synthetic rain streaks."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw
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
        streaks = np.zeros(image.shape[:2], np.float32)
        for layer in self._layers(image.shape[:2], rng):
            streaks += (1 - streaks) * layer.brightness * layer.opacity()
        haze = np.float32(rng.uniform(*self.haze))
        veiled = np.clip(image, 0, 1, order="C") * (1 - haze) + haze * np.float32(_SKY)
        return np.clip(veiled + (1 - veiled) * streaks[..., None], 0, 1)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the lines of all layers, without their blur, and the haze.

        The parameters of absent layers are 0. See :meth:`Degradation.draw`.
        """
        count, pad = round(self.layers[1]), _padding(self.width[1])
        canvases = np.zeros((count, *(side + 2 * pad for side in shape)), np.uint8)
        kernels = np.zeros((count, 2 * pad + 1), np.float32)
        brightness = np.zeros(count, np.float32)
        for k, layer in enumerate(self._layers(shape, rng)):
            canvases[k] = np.pad(layer.canvas, pad - layer.pad)
            kernel = cv2.getGaussianKernel(_gaussian_size(layer.blur), layer.blur)[:, 0]
            kernels[k] = np.pad(kernel, pad - len(kernel) // 2) / np.sqrt(layer.peak)
            brightness[k] = layer.brightness
        haze = np.float32(rng.uniform(*self.haze))
        return {"canvases": canvases, "kernels": kernels, "brightness": brightness, "haze": haze}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add rain and haze; see :meth:`Degradation.degrade_batch`."""
        kernels = draws["kernels"]
        squares = kernels[..., :, None] * kernels[..., None, :]
        opacity = batched.correlate(draws["canvases"].float(), squares).clamp(0, 1)
        dry = 1 - batched.per_image(draws["brightness"]) * opacity
        streaks = 1 - dry.prod(1, keepdim=True)
        haze = batched.per_image(draws["haze"])
        veiled = clean.clamp(0, 1) * (1 - haze) + haze * _SKY
        return (veiled + (1 - veiled) * streaks).clamp(0, 1)

    def _layers(self, shape: tuple[int, int], rng: np.random.Generator) -> list["_Layer"]:
        """Draw the layers for an image of a shape (H, W), the nearest layer first."""
        wind = rng.uniform(*self.angle) * rng.choice([-1, 1])
        density, length = rng.uniform(*self.density), rng.uniform(*self.length)
        width = rng.uniform(*self.width)
        layers = []
        fewest, most = np.rint(self.layers).astype(int)
        for depth in range(rng.integers(fewest, most, endpoint=True)):
            near = 0.6**depth
            brightness = np.float32(rng.uniform(*self.brightness) * near)
            canvas = _draw_lines(shape, density / near, length * near, width * near, wind, rng)
            layers.append(_Layer(canvas, width * near, brightness))
        return layers


class _Layer(NamedTuple):
    """Layer of streaks before the blur.

    Attributes:
        canvas: lines of one pixel, uint8, with :func:`_padding` pixels more on each side.
        width: full width at half maximum of a streak in pixels.
        brightness: brightness of an opaque streak, 0 to 1.
    """

    canvas: NDArray[np.uint8]
    width: float
    brightness: np.float32

    @property
    def pad(self) -> int:
        return _padding(self.width)

    @property
    def _sigma(self) -> float:
        return max(self.width / 2.355, 0.6)  # FWHM = 2.355 sigma

    @property
    def blur(self) -> float:
        """Standard deviation of the blur that gives the lines their width."""
        return float(np.sqrt(self._sigma**2 - _LINE_SIGMA**2))

    @property
    def peak(self) -> float:
        """Value at the center of a blurred opaque line."""
        return float(255 * _LINE_AREA / (np.sqrt(2 * np.pi) * self._sigma))

    def opacity(self) -> NDArray[np.float32]:
        """Blur the lines: opacity (H, W) float32 in [0, 1]."""
        inner = slice(self.pad, -self.pad)
        soft = cv2.GaussianBlur(self.canvas.astype(np.float32), (0, 0), self.blur)[inner, inner]
        opacity: NDArray[np.float32] = np.minimum(soft / np.float32(self.peak), 1)
        return opacity


def _padding(width: float) -> int:
    """Return the padding that avoids border effects of the line clipping and of the blur."""
    return int(np.ceil(2 * width)) + 1


def _gaussian_size(sigma: float) -> int:
    """Return the size of the kernel of ``cv2.GaussianBlur`` for float32 images."""
    return round(8 * sigma + 1) | 1


def _draw_lines(
    shape: tuple[int, int],
    density: float,
    length: float,
    width: float,
    wind: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Draw the lines of one layer: canvas (H + 2 * padding, W + 2 * padding) uint8.

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
    pad = _padding(width)
    ends = np.stack((middle - offset, middle + offset), 1) + pad
    canvas = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), np.uint8)
    points = np.rint(ends * 2**_FRACTION_BITS).astype(int)
    for (start, end), value in zip(points.tolist(), opacity.tolist(), strict=True):
        cv2.line(canvas, start, end, value, 1, cv2.LINE_AA, _FRACTION_BITS)
    return canvas
