"""Underexposure."""

import numpy as np
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.noise import add_sensor_noise, typical_read_noise
from mprnet_lit.utils.checks import require_generator, require_image


class LowLight(Degradation):
    """Underexposure in linear light, with visible sensor noise.

    Args:
        exposure: fraction of the light that reaches the sensor, 0 to 1.
        shot: variance of the shot noise at full intensity, 0 to 1.
            :func:`.noise.typical_read_noise` draws the matching read noise.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(self, exposure: Range = (0.05, 0.3), shot: Range = (1e-4, 1e-3)) -> None:
        self.exposure = checked_range(self, "exposure", exposure, high=1)
        self.shot = checked_range(self, "shot", shot, high=1)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Darken the image; the result is clipped to [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        exposure, shot, read = self._parameters(rng)
        return linear_to_srgb(add_sensor_noise(srgb_to_linear(image) * exposure, shot, read, rng))

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the exposure, noise levels and the noise's seed; see :meth:`Degradation.draw`."""
        exposure, shot, read = self._parameters(rng)
        return {"exposure": exposure, **batched.draw_sensor_noise(shot, read, rng)}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Darken the images; see :meth:`Degradation.degrade_batch`."""
        light = batched.srgb_to_linear(clean) * batched.per_image(draws["exposure"])
        return batched.linear_to_srgb(batched.add_sensor_noise(light, draws))

    def _parameters(self, rng: np.random.Generator) -> tuple[np.float32, float, float]:
        """Draw the exposure, the shot noise and the read noise."""
        exposure, shot = np.float32(rng.uniform(*self.exposure)), rng.uniform(*self.shot)
        return exposure, shot, typical_read_noise(shot, rng)
