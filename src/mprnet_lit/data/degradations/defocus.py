"""Blur of a scene that is out of focus."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw, disk
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.noise import add_sensor_noise, typical_read_noise
from mprnet_lit.utils.checks import require_generator, require_image


class Defocus(Degradation):
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

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Blur the image; the result is clipped to [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        kernel, shot, read = self._parameters(rng)
        light = srgb_to_linear(image)
        blurred = np.asarray(
            cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32
        ).reshape(light.shape)
        return linear_to_srgb(add_sensor_noise(blurred, shot, read, rng))

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the disk, noise levels and the seed of the noise; see :meth:`Degradation.draw`."""
        kernel, shot, read = self._parameters(rng)
        return {"kernel": kernel, **batched.draw_sensor_noise(shot, read, rng)}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Blur the images; see :meth:`Degradation.degrade_batch`."""
        light = batched.srgb_to_linear(clean)
        blurred = batched.correlate(light, draws["kernel"][:, None])
        return batched.linear_to_srgb(batched.add_sensor_noise(blurred, draws))

    def _parameters(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], float, float]:
        """Draw the kernel (k, k) of the largest radius, the shot noise and the read noise."""
        kernel = disk(rng.uniform(*self.radius), self.radius[1])
        shot = rng.uniform(*self.noise)
        return kernel, shot, typical_read_noise(shot, rng)
