"""Film grain."""

import numpy as np
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import BatchDegradation, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw

_KERNEL = 13
"""Side of the kernel of a grain in pixels."""


class FilmGrain(BatchDegradation):
    """Grain of a scanned film: correlated noise that is strongest in medium gray.

    In the Boolean model of Newson et al., "A Stochastic Film Grain Model for Resolution-Independent
    Rendering" (Computer Graphics Forum 2017, section 3), random disks cover the share u of the
    film at a pixel of value u. Whether a point is covered has the mean u and the variance
    u * (1 - u). This class draws normal noise with this variance, instead of the disks, and
    correlates it by a Gaussian of the size of a grain. Black and white have no grain.

    Args:
        sigma: standard deviation in medium gray (u = 0.5), in 8-bit units (255 is white).
        size: standard deviation of the Gaussian of a grain in pixels, 0 to 2.
        color: share of the variance that is independent in each channel, 0 (gray grain, as of
            black-and-white film) to 1.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(
        self, sigma: Range = (3, 30), size: Range = (0.3, 1.2), color: Range = (0, 1)
    ) -> None:
        self.sigma = checked_range(self, "sigma", sigma)
        self.size = checked_range(self, "size", size, high=2)
        self.color = checked_range(self, "color", color, high=1)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw strength, grain and the seed of the noise; see :meth:`Degradation.draw`."""
        kernel = batched.gaussian_kernel(rng.uniform(*self.size), _KERNEL)
        return {
            "sigma": np.float32(rng.uniform(*self.sigma) / 255),
            "kernel": kernel / np.sqrt(np.square(kernel).sum()),
            "color": np.float32(rng.uniform(*self.color)),
            "seed": batched.draw_seed(rng),
        }

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add grain; the result is clipped to [0, 1]. See :meth:`Degradation.degrade_batch`."""
        height, width = (side + _KERNEL - 1 for side in clean.shape[2:])
        noise = batched.normal_noise(draws["seed"], (4, height, width))
        grain = batched.correlate(noise, draws["kernel"][:, None])
        color = batched.per_image(draws["color"])
        grain = (1 - color).sqrt() * grain[:, :1] + color.sqrt() * grain[:, 1:]
        clean = clean.clamp(0, 1)
        deviation = 2 * batched.per_image(draws["sigma"]) * (clean * (1 - clean)).sqrt()
        return (clean + deviation * grain).clamp(0, 1)
