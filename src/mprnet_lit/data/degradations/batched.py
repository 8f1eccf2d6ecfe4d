"""Pixel operations on batches of images on any device, for :meth:`Degradation.degrade_batch`.

All tensors are float32, unless stated otherwise. No operation waits for the device, and all shapes
are independent of the values.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Draw = dict[str, Any]
"""Random parameters of an image: arrays or scalars by name, or nested draws. Every draw of a
degradation has the same shapes, so that the draws of a batch can be stacked."""
_FFT_MULTIPLE = 32
"""Divisor of the sides of Fourier transforms, so that their prime factors are small."""


def per_image(values: Tensor) -> Tensor:
    """Reshape values (B,) or (B, C) to (B, 1, 1, 1) or (B, C, 1, 1), to broadcast over images."""
    return values.reshape(len(values), -1, 1, 1)


def trim(images: Tensor, margin: int) -> Tensor:
    """Remove ``margin`` pixels on each side of images (..., H, W)."""
    height, width = images.shape[-2:]
    return images[..., margin : height - margin, margin : width - margin]


def correlate(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each image with its own kernel, by Fourier transforms.

    Unlike that of cuDNN's convolutions, the precision doesn't depend on TF32 settings of torch.

    Args:
        images: images (B, C, H, W).
        kernels: kernels (B, C, K, K) or (B, 1, K, K), K odd and at most H and W.

    Returns:
        Images (B, C, H - K + 1, W - K + 1), without the pixels whose window crosses a border.
    """
    height, width = images.shape[-2:]
    size = [-(-side // _FFT_MULTIPLE) * _FFT_MULTIPLE for side in (height, width)]
    spectrum = torch.fft.rfft2(images, s=size) * torch.fft.rfft2(kernels.float(), s=size).conj()
    filtered: Tensor = torch.fft.irfft2(spectrum, s=size)
    border = kernels.shape[-1] - 1
    return filtered[..., : height - border, : width - border]


def gaussian_kernel(sigma: float, size: int) -> NDArray[np.float32]:
    """Return a normalized Gaussian kernel (size, size); ``sigma`` in pixels, 0 for an impulse."""
    distance = np.arange(size) - size // 2
    profile = np.exp(-0.5 * (distance / max(sigma, 1e-3)) ** 2)
    kernel = np.outer(profile, profile)
    return np.asarray(kernel / kernel.sum(), np.float32)


def disk(radius: float, largest: float) -> NDArray[np.float32]:
    """Return a disk with a soft edge and a sum of 1, (k, k) with an odd k for the largest radius.

    A radius of up to half a pixel gives a unit impulse.
    """
    size = max(0, int(np.ceil(largest - 0.5)))
    distance = np.hypot(*np.mgrid[-size : size + 1, -size : size + 1])
    kernel = np.clip(radius + 0.5 - distance, 0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def draw_seed(rng: np.random.Generator) -> np.int64:
    """Draw the seed of the noise of an image for :func:`normal_noise`."""
    return rng.integers(2**63, dtype=np.int64)


def normal_noise(seeds: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw standard normal noise for each image from its own seed.

    The random bits of a value are a function of the seed and the position, the generator SplitMix64
    (Steele et al., OOPSLA 2014), and are transformed by the method of Box and Muller. The noise of
    an image therefore depends neither on the other images of the batch nor on earlier draws.

    Args:
        seeds: seeds (B,) int64.
        shape: shape of the noise of an image.

    Returns:
        Noise (B, *shape) float32 on the device of ``seeds``.
    """
    count = math.prod(shape)
    counter = torch.arange(1, (count + 1) // 2 + 1, device=seeds.device)
    bits = seeds[:, None] + counter * _signed(0x9E3779B97F4A7C15)
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    bits = bits ^ _shifted(bits, 31)
    first, second = ((part.float() + 0.5) / 2**32 for part in (_shifted(bits, 32), bits & _LOW))
    radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
    noise = torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)
    return noise[:, :count].reshape(len(seeds), *shape)


def draw_sensor_noise(shot: float, read: float, rng: np.random.Generator) -> Draw:
    """Return the parameters of :func:`add_sensor_noise` for an image, with a new seed.

    Args:
        shot: variance of the shot noise at full intensity, at least 0.
        read: standard deviation of the read noise, at least 0.
        rng: random generator.
    """
    levels = {"shot": np.float32(shot), "read_variance": np.float32(read**2)}
    return {**levels, "seed": draw_seed(rng)}


def add_sensor_noise(light: Tensor, draws: Draw) -> Tensor:
    """Add Poisson-Gaussian noise to linear light; see :func:`.noise.add_sensor_noise`.

    Args:
        light: linear light, (B, 3, H, W) in [0, 1].
        draws: stacked results of :func:`draw_sensor_noise`.

    Returns:
        Noisy linear light (B, 3, H, W), not clipped.
    """
    shot, read = (per_image(draws[name]) for name in ("shot", "read_variance"))
    noise = normal_noise(draws["seed"], light.shape[1:])
    return light + (shot * light.clamp(min=0) + read).sqrt() * noise


def srgb_to_linear(images: Tensor) -> Tensor:
    """Convert sRGB values to linear light in [0, 1]; see :func:`.color.srgb_to_linear`."""
    images = images.clamp(0, 1)
    return torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Tensor) -> Tensor:
    """Convert linear light to sRGB values in [0, 1]; see :func:`.color.linear_to_srgb`."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


_LOW = 2**32 - 1


def _signed(bits: int) -> int:
    """Return the int64 with the same 64 bits as an unsigned number."""
    return bits - (bits >> 63 << 64)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shift int64 values to the right, and fill with zeros."""
    return torch.bitwise_and(bits >> by, 2 ** (64 - by) - 1)
