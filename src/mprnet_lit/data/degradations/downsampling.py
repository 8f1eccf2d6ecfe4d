"""Loss of resolution."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.data.degradations.base import BatchDegradation, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw


class Downsampling(BatchDegradation):
    """Bicubic downsampling and bicubic upsampling to the original size.

    The weights are those of Pillow's ``resize``: the cubic convolution kernel of Keys (IEEE TASSP
    1981) with a = -0.5, widened by the factor for downsampling, cut off at the borders, and
    normalized at each position. The sRGB values are resampled, as in published data sets for
    super-resolution. Unlike there, the size of the image remains.

    Args:
        factor: ratio of the sides of the original and the downsampled image, 1 to 16.

    Raises:
        UserError: the range of ``factor`` is descending or out of bounds.
    """

    def __init__(self, factor: Range = (2, 4)) -> None:
        self.factor = checked_range(self, "factor", factor, low=1, high=16)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the matrices (H, H) and (W, W) of both axes; see :meth:`Degradation.draw`."""
        factor = rng.uniform(*self.factor)
        return {
            name: _down_and_up(side, factor)
            for name, side in zip(("rows", "columns"), shape, strict=True)
        }

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Resample the images, clipped to [0, 1]; see :meth:`Degradation.degrade_batch`."""
        # CUDA devices may round the inputs of float32 products to TF32.
        dtype = torch.float64 if clean.is_cuda else torch.float32
        rows, columns = (draws[name].to(dtype)[:, None] for name in ("rows", "columns"))
        resampled: Tensor = rows @ clean.clamp(0, 1).to(dtype) @ columns.mT
        return resampled.float().clamp(0, 1)


def _down_and_up(side: int, factor: float) -> NDArray[np.float32]:
    """Return the matrix (side, side) of down- and upsampling along an axis."""
    small = max(1, round(side / factor))
    return np.asarray(_resampling(small, side) @ _resampling(side, small), np.float32)


def _resampling(source: int, target: int) -> NDArray[np.float64]:
    """Return the matrix (target, source) of bicubic resampling along an axis."""
    scale = source / target
    centers = (np.arange(target)[:, None] + 0.5) * scale - 0.5
    distance = np.abs(np.arange(source) - centers) / max(scale, 1)
    weights = np.where(
        distance < 1,
        (1.5 * distance - 2.5) * distance**2 + 1,
        np.where(distance < 2, ((-0.5 * distance + 2.5) * distance - 4) * distance + 2, 0),
    )
    matrix: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return matrix
