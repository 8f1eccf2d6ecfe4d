"""Haze, mist and the veil of distant rain."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.utils.checks import require_generator, require_image

Pixels = TypeVar("Pixels", Image, Tensor)
_WAVES = 4
"""Number of cosines in each dimension of a depth map."""


class Haze(Degradation):
    """Haze whose density grows with a smooth random depth (Koschmieder's law).

    The result is ``image * t + airlight * (1 - t)`` with the transmission ``t = exp(-beta *
    depth)`` (Koschmieder, 1924), applied to sRGB values as in the synthetic data sets. Far rain
    looks the same, because its streaks are too small to be seen one by one (Li et al., "Heavy Rain
    Image Restoration", CVPR 2019). The depth of a real scene is not known, and is replaced by a sum
    of a few cosines.

    Args:
        opacity: opacity ``1 - t`` of the haze at the farthest point, 0 to 1.
        relief: range of the depth as a fraction of the largest depth: 0 for a plane, and 1 if the
            nearest point has no haze.
        airlight: gray level of an infinitely distant point, sRGB in [0, 1].

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(
        self, opacity: Range = (0, 0.6), relief: Range = (0, 1), airlight: Range = (0.6, 0.95)
    ) -> None:
        self.opacity = checked_range(self, "opacity", opacity, high=1)
        self.relief = checked_range(self, "relief", relief, high=1)
        self.airlight = checked_range(self, "airlight", airlight, high=1)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add haze; the result is in [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        transmission, airlight = self._parameters(image.shape[:2], rng)
        clear = np.clip(image, 0, 1, order="C", dtype=np.float32)
        return cover(clear, 1 - transmission[..., None], airlight)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the transmission (H, W) and the air light; see :meth:`Degradation.draw`."""
        transmission, airlight = self._parameters(shape, rng)
        return {"transmission": transmission, "airlight": airlight}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add haze; see :meth:`Degradation.degrade_batch`."""
        airlight = batched.per_image(draws["airlight"])
        return cover(clean.clamp(0, 1), 1 - draws["transmission"][:, None], airlight)

    def _parameters(
        self, shape: tuple[int, int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], np.float32]:
        """Draw the transmission (H, W) and the air light."""
        farthest = np.float32(1 - rng.uniform(*self.opacity))
        relief = np.float32(rng.uniform(*self.relief))
        transmission = farthest ** (1 - relief * (1 - depth_map(shape, rng)))
        return transmission, np.float32(rng.uniform(*self.airlight))


def cover(image: Pixels, opacity: Any, level: Any, occlusion: Any = 1) -> Pixels:
    """Cover an image with a gray veil or with streaks.

    Args:
        image: image, an array or a tensor.
        opacity: opacity of the cover, 0 to 1, broadcast to the image.
        level: gray level of an opaque cover, 0 to 1.
        occlusion: fraction of the image that an opaque cover hides: 1 to blend, and 0 to add.

    Returns:
        ``image * (1 - occlusion * opacity) + level * opacity``, not clipped.
    """
    covered: Pixels = image * (1 - occlusion * opacity) + level * opacity
    return covered


def depth_map(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a smooth depth map, (H, W) float32 with the range [0, 1].

    The map is a sum of cosines with normal amplitudes that fall with the frequency.

    Args:
        shape: height and width in pixels.
        rng: random generator.
    """
    number = np.arange(_WAVES)
    amplitudes = rng.normal(size=(_WAVES, _WAVES)) / (1 + number[:, None] ** 2 + number**2)
    rows, columns = (
        np.cos(np.pi * number * (np.arange(side)[:, None] + 0.5) / side) for side in shape
    )
    depth = (rows @ amplitudes @ columns.T).astype(np.float32)
    depth -= depth.min()
    scaled: NDArray[np.float32] = depth / max(depth.max(), np.float32(1e-6))
    return scaled
