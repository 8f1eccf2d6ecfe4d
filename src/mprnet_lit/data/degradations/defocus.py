"""Blur of a scene that is out of focus."""

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.degradations.base import Range, checked_range
from mprnet_lit.data.degradations.batched import disk
from mprnet_lit.data.degradations.kernel_blur import KernelBlur


class Defocus(KernelBlur):
    """Blur by a disk in linear light, with weak sensor noise.

    A lens with a round aperture images a point that is out of focus as a disk, the circle of
    confusion. The whole image has the same distance.

    Args:
        radius: radius of the disk in pixels, at most 50. A radius of up to half a pixel does not
            blur.
        noise: variance of the shot noise at full intensity. :func:`.noise.typical_read_noise` draws
            the matching read noise.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(self, radius: Range = (1, 6), noise: Range = (1e-5, 2e-4)) -> None:
        self.radius = checked_range(self, "radius", radius, high=50)
        self.noise = checked_range(self, "noise", noise, high=1)
        self.margin = max(0, int(np.ceil(self.radius[1] - 0.5)))

    def kernel(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw a disk; see :meth:`KernelBlur.kernel`."""
        return disk(rng.uniform(*self.radius), self.radius[1])
