"""Blur of a whole image by one kernel."""

from abc import abstractmethod

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.noise import add_sensor_noise, typical_read_noise
from mprnet_lit.utils.checks import require_generator, require_image


class KernelBlur(Degradation):
    """Blur by a random kernel in linear light, with weak sensor noise.

    Attributes:
        noise: range of the variance of the shot noise at full intensity.
            :func:`.noise.typical_read_noise` draws the matching read noise.
        margin: largest radius of the kernels in pixels.
    """

    noise: tuple[float, float]
    margin: int

    @abstractmethod
    def kernel(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw a kernel (k, k) with an odd k of at most 2 ``margin`` + 1 and a sum of 1."""

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
        """Draw the kernel, noise levels and the seed of the noise; see :meth:`Degradation.draw`."""
        kernel, shot, read = self._parameters(rng)
        padded = np.pad(kernel, self.margin - len(kernel) // 2)
        return {"kernel": padded, **batched.draw_sensor_noise(shot, read, rng)}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Blur the images; see :meth:`Degradation.degrade_batch`."""
        light = batched.srgb_to_linear(clean)
        blurred = batched.correlate(light, draws["kernel"][:, None])
        return batched.linear_to_srgb(batched.add_sensor_noise(blurred, draws))

    def _parameters(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], float, float]:
        """Draw the kernel, the shot noise and the read noise."""
        kernel = self.kernel(rng)
        shot = rng.uniform(*self.noise)
        return kernel, shot, typical_read_noise(shot, rng)
