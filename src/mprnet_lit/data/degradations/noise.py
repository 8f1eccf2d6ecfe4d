"""Additive white Gaussian noise and camera sensor noise."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.utils.checks import require_generator, require_image, require_number


class GaussianNoise(Degradation):
    """Additive white Gaussian noise (AWGN).

    Args:
        sigma: standard deviation in 8-bit units (255 is white), or the range of a uniform
            distribution for blind denoising.
        clip: whether to clip the result to [0, 1]; benchmarks of Gaussian denoising do not.

    Raises:
        UserError: the range of ``sigma`` is descending or begins below 0.
    """

    def __init__(self, sigma: Range = (0, 50), clip: bool = False) -> None:
        self.sigma = checked_range(self, "sigma", sigma)
        self.clip = clip

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add the noise; see :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        sigma = self._sigma(rng)
        noisy = rng.standard_normal(image.shape, dtype=np.float32)
        noisy *= sigma
        noisy += image
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the standard deviation and the seed of the noise; see :meth:`Degradation.draw`."""
        return {"sigma": self._sigma(rng), "seed": batched.draw_seed(rng)}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add the noise; see :meth:`Degradation.degrade_batch`."""
        noise = batched.normal_noise(draws["seed"], clean.shape[1:])
        noisy = clean + batched.per_image(draws["sigma"]) * noise
        return noisy.clamp(0, 1) if self.clip else noisy

    def _sigma(self, rng: np.random.Generator) -> np.float32:
        return np.float32(rng.uniform(*self.sigma) / 255)


def add_sensor_noise(light: Image, shot: float, read: float, rng: np.random.Generator) -> Image:
    """Add Poisson-Gaussian noise to linear light.

    The noise is normal with variance ``shot * light + read**2``: signal-dependent shot noise and
    constant read noise (Foi et al., IEEE TIP 2008). The normal distribution approximates the
    Poisson distribution of the photon count.

    Args:
        light: linear light, (H, W, 3) float32 in [0, 1].
        shot: variance of the shot noise at full intensity, at least 0.
        read: standard deviation of the read noise, at least 0.
        rng: random generator.

    Returns:
        Noisy linear light (H, W, 3) float32, not clipped.

    Raises:
        UserError: an argument has the wrong type, shape or range.
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
    """Draw a typical standard deviation of the read noise for a variance of the shot noise.

    For the cameras of the Darmstadt data set, the logarithms of both variances are linearly
    related, with normal residuals of standard deviation 0.26 (Brooks et al., CVPR 2019, section
    3.1).

    Args:
        shot: variance of the shot noise at full intensity, at least 0.
        rng: random generator.

    Raises:
        UserError: an argument has the wrong type or range.
    """
    require_number("shot", shot, low=0)
    require_generator(rng)
    variance = np.exp(1.20 + rng.normal(0, 0.26)) * shot**2.18
    return float(np.sqrt(variance))


class CameraNoise(Degradation):
    """Poisson-Gaussian sensor noise, added in linear light before the white balance.

    The noise levels (section 3.1) and the white balance gains (section 3.4) follow Brooks et al.,
    "Unprocessing Images for Learned Raw Denoising" (CVPR 2019), who measured them on the
    Darmstadt data set. Demosaicing and in-camera denoising are not simulated.

    Args:
        shot: variance of the shot noise at full intensity, 1e-9 to 1, drawn log-uniformly.
        read: standard deviation of the read noise relative to full intensity, in [0, 1]; ``None``
            to derive it from the shot noise with :func:`typical_read_noise`.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(self, shot: Range = (1e-4, 1.2e-2), read: Range | None = None) -> None:
        self.shot = checked_range(self, "shot", shot, low=1e-9, high=1.0)
        self.read = None if read is None else checked_range(self, "read", read, high=1.0)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add the noise; the result is clipped to [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        shot, read, gains = self._parameters(rng)
        raw = srgb_to_linear(image) / gains
        return linear_to_srgb(add_sensor_noise(raw, shot, read, rng) * gains)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw noise levels, gains and the seed of the noise; see :meth:`Degradation.draw`."""
        shot, read, gains = self._parameters(rng)
        return {"gains": gains, **batched.draw_sensor_noise(shot, read, rng)}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add the noise; see :meth:`Degradation.degrade_batch`."""
        gains = batched.per_image(draws["gains"])
        raw = batched.srgb_to_linear(clean) / gains
        return batched.linear_to_srgb(batched.add_sensor_noise(raw, draws) * gains)

    def _parameters(self, rng: np.random.Generator) -> tuple[float, float, NDArray[np.float32]]:
        """Draw the shot noise, the read noise and the gains (3,) of the white balance."""
        shot = float(np.exp(rng.uniform(*np.log(self.shot))))
        read = typical_read_noise(shot, rng) if self.read is None else rng.uniform(*self.read)
        gains = np.array([rng.uniform(1.9, 2.4), 1.0, rng.uniform(1.5, 1.9)], np.float32)
        return shot, read, gains
