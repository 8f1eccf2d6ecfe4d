"""Noise: additive white Gaussian, and a camera's."""

import numpy as np

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear


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
        sigma = np.float32(rng.uniform(*self.sigma) / 255)
        noisy = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(noisy, 0, 1, dtype=np.float32) if self.clip else noisy


def add_sensor_noise(light: Image, shot: float, read: float, rng: np.random.Generator) -> Image:
    """Add Poisson-Gaussian noise to linear light (H, W, 3) in [0, 1].

    The variance is ``shot * light + read**2``: photon noise, which grows with the light, and the
    read-out's, which does not (Foi et al., IEEE TIP 2008). A normal distribution of that variance
    stands for the Poisson one, as is usual for more than a few photons.
    """
    variance = np.float32(shot) * np.clip(light, 0, None) + np.float32(read**2)
    noisy: Image = light + np.sqrt(variance) * rng.standard_normal(light.shape, dtype=np.float32)
    return noisy


class CameraNoise(Degradation):
    """Poisson-Gaussian noise of a sensor, made in linear light before white balance.

    Ranges and the relation between shot and read noise follow Brooks et al., "Unprocessing Images
    for Learned Raw Denoising" (CVPR 2019), section 3.1, after the Darmstadt data set; likewise the
    white balance gains, section 3.4. Demosaicking and the camera's own denoising are left out.

    Args:
        shot: range of the shot noise's variance at full light, drawn from evenly on a log scale.

    Raises:
        UserError: the range is out of order or not above 0.
    """

    def __init__(self, shot: Range = (1e-4, 1.2e-2)) -> None:
        self.shot = checked_range(self, "shot", shot, low=1e-9, high=1.0)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add the noise; the result is clipped to [0, 1], as a file would be."""
        shot = float(np.exp(rng.uniform(*np.log(self.shot))))
        # Read variance follows shot noise along a line in log-log, with a spread of 0.26.
        read = float(np.exp(0.5 * (2.18 * np.log(shot) + 1.20 + rng.normal(0, 0.26))))
        gains = np.array([rng.uniform(1.9, 2.4), 1.0, rng.uniform(1.5, 1.9)], np.float32)
        raw = srgb_to_linear(image) / gains
        return linear_to_srgb(add_sensor_noise(raw, shot, read, rng) * gains)
