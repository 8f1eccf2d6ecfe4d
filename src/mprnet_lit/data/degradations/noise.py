"""Noise: additive white Gaussian, and a camera's."""

import numpy as np

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.utils.checks import require_generator, require_image, require_number


class GaussianNoise(Degradation):
    """Additive white Gaussian noise, as the denoising literature tests with.

    Args:
        sigma: standard deviation in 8-bit units (255 is white); a range is drawn from evenly, for
            blind denoising.
        clip: clip to [0, 1]; the literature does not.

    Raises:
        UserError: a range is out of order or below 0.
    """

    def __init__(self, sigma: Range = (0, 50), clip: bool = False) -> None:
        self.sigma = checked_range(self, "sigma", sigma)
        self.clip = clip

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add the noise."""
        require_image(image)
        require_generator(rng)
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        noisy = rng.standard_normal(image.shape, dtype=np.float32)
        noisy *= sigma
        noisy += image
        return np.clip(noisy, 0, 1) if self.clip else noisy


def add_sensor_noise(light: Image, shot: float, read: float, rng: np.random.Generator) -> Image:
    """Add Poisson-Gaussian noise to linear light (H, W, 3) in [0, 1].

    The variance is ``shot * light + read**2``: photon noise, which grows with the light, and the
    read-out's, which does not (Foi et al., IEEE TIP 2008). A normal distribution of that variance
    stands for the Poisson one, as is usual for more than a few photons.
    """
    require_image(light)
    require_generator(rng)
    require_number("shot", shot, low=0)
    require_number("read", read, low=0)
    variance = np.float32(shot) * np.clip(light, 0, None) + np.float32(read**2)
    noisy = rng.standard_normal(light.shape, dtype=np.float32)
    noisy *= np.sqrt(variance)
    noisy += light
    return noisy


def typical_read_noise(shot: float, rng: np.random.Generator) -> float:
    """Draw the standard deviation of the read noise that goes with a variance of the shot noise.

    A sensor at a high gain has more of both: over the Darmstadt data set's cameras, the logarithms
    of the variances lie along a line, with a spread (Brooks et al., CVPR 2019, section 3.1).
    """
    require_number("shot", shot, low=0)
    require_generator(rng)
    variance = np.exp(1.20 + rng.normal(0, 0.26)) * shot**2.18
    return float(np.sqrt(variance))


class CameraNoise(Degradation):
    """Poisson-Gaussian noise of a sensor, made in linear light before white balance.

    Ranges and the relation between shot and read noise follow Brooks et al., "Unprocessing Images
    for Learned Raw Denoising" (CVPR 2019), section 3.1, after the Darmstadt data set; likewise the
    white balance gains, section 3.4. Demosaicking and the camera's own denoising are left out.

    Args:
        shot: variance of the shot noise at full light, drawn from evenly on a log scale.
        read: standard deviation of the read noise as a share of full light, drawn from evenly;
            ``None`` for what typically goes with the shot noise.

    Raises:
        UserError: a range is out of order or out of bounds; ``shot`` must be above 0.
    """

    def __init__(self, shot: Range = (1e-4, 1.2e-2), read: Range | None = None) -> None:
        self.shot = checked_range(self, "shot", shot, low=1e-9, high=1.0)
        self.read = None if read is None else checked_range(self, "read", read, high=1.0)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add the noise; the result is clipped to [0, 1], as a file would be."""
        require_image(image)
        require_generator(rng)
        shot = float(np.exp(rng.uniform(*np.log(self.shot))))
        read = typical_read_noise(shot, rng) if self.read is None else rng.uniform(*self.read)
        gains = np.array([rng.uniform(1.9, 2.4), 1.0, rng.uniform(1.5, 1.9)], np.float32)
        raw = srgb_to_linear(image) / gains
        return linear_to_srgb(add_sensor_noise(raw, shot, read, rng) * gains)
