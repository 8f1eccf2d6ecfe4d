"""Sensor noise on a Bayer mosaic, developed as by a phone."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import BatchDegradation, Range
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.data.degradations.noise import CameraNoise
from mprnet_lit.utils.checks import require_number

_KERNEL = 17
"""Side of the kernels of denoising and sharpening in pixels."""
_CONTEXT = _KERNEL // 2 + 3
"""Pixels on each side that the kernels and the demosaicing read."""
_MIXING = np.array([[[0.2, 0.8], [-0.1, 0.2]], [[0.1, 0.4], [0.1, 0.5]], [[-0.1, 0.1], [0.2, 0.8]]])
"""Ranges of the negative weights of a color matrix: (green, blue), (red, blue), (red, green)."""


class RawNoise(BatchDegradation, CameraNoise):
    """Poisson-Gaussian noise on a Bayer mosaic, developed to an sRGB image as by a phone.

    The noise (Foi et al., IEEE TIP 2008) is added to the mosaic of the unprocessed image (Brooks et
    al., CVPR 2019), as in CBDNet (Guo et al., CVPR 2019, section 3.1). Demosaicing, white balance,
    color matrix, gamma, and sometimes denoising and sharpening then correlate the noise between
    neighbors and channels. Two methods of demosaicing are equally likely. Both interpolate green
    with a Laplacian correction, and color differences bilinearly. One averages both directions,
    as Malvar et al. (ICASSP 2004) do. The other chooses the direction with the smaller gradient
    (Hamilton and Adams, US patent 5,629,734).

    Only the noise passes through the interpolation and the filters, with the directions of the
    noisy mosaic, and is then added to the clean image. These steps are linear for given directions.
    The result is therefore the developed noisy mosaic without the artifacts and the blur that the
    development of the clean mosaic has, so that the network learns to remove noise only. In linear
    light and before clipping, the noise has a mean of zero.

    Args:
        shot: variance of the shot noise at full intensity, 1e-9 to 1, drawn log-uniformly.
        read: standard deviation of the read noise relative to full intensity, in [0, 1]; ``None``
            to derive it from the shot noise with :func:`.noise.typical_read_noise`.
        filtered: probability that the phone denoises and sharpens the image, 0 to 1.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(
        self, shot: Range = (1e-4, 1.2e-2), read: Range | None = None, filtered: float = 0.5
    ) -> None:
        super().__init__(shot, read)
        require_number("RawNoise filtered", filtered, low=0, high=1)
        self.filtered = filtered

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the sensor noise and the development; see :meth:`Degradation.draw`."""
        noise = super().draw(shape, rng)
        matrix = _color_matrix(rng)
        return {
            **noise,
            "matrix": matrix,
            "unprocess": np.linalg.inv(matrix),
            "phase": rng.integers(2, size=2),
            "directed": np.bool_(rng.random() < 0.5),
            "kernels": _filters(rng, rng.random() < self.filtered),
        }

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add the noise; the result is clipped to [0, 1]. See :meth:`Degradation.degrade_batch`."""
        light = batched.srgb_to_linear(pad(clean, [_CONTEXT] * 4, mode="replicate"))
        gains = batched.per_image(draws["gains"])
        raw = _mix(draws["unprocess"], light) / gains
        sites = bayer_sites(draws["phase"], light.shape[2:])
        mosaic = (raw * sites).sum(1, keepdim=True)
        noisy = batched.add_sensor_noise(mosaic, draws)
        noise = demosaic(noisy - mosaic, noisy, sites, batched.per_image(draws["directed"]))
        developed = _mix(draws["matrix"], noise * gains)
        change = batched.linear_to_srgb(light + developed) - batched.linear_to_srgb(light)
        luma = 0.299 * change[:, :1] + 0.587 * change[:, 1:2] + 0.114 * change[:, 2:]
        filtered = batched.correlate(torch.cat((change, luma), 1), draws["kernels"])
        filtered = batched.trim(filtered, _CONTEXT - _KERNEL // 2)
        return (clean + filtered[:, :3] + filtered[:, 3:]).clamp(0, 1)


def _color_matrix(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a matrix (3, 3) from the colors of a camera to sRGB; each row has a sum of 1."""
    weights = -rng.uniform(_MIXING[..., 0], _MIXING[..., 1])
    matrix = np.eye(3)
    matrix[~np.eye(3, dtype=bool)] = weights.ravel()
    matrix[np.diag_indices(3)] -= weights.sum(1)
    return matrix.astype(np.float32)


def _filters(rng: np.random.Generator, filtered: bool) -> NDArray[np.float32]:
    """Draw kernels (4, K, K): of chroma for red, green and blue, and of luma minus chroma."""
    impulse = batched.gaussian_kernel(0, _KERNEL)
    if not filtered:
        return np.stack([impulse, impulse, impulse, impulse * 0])
    smooth = batched.gaussian_kernel(rng.uniform(0.5, 2), _KERNEL)
    luma = impulse + np.float32(rng.uniform(0, 0.9)) * (smooth - impulse)
    wide = batched.gaussian_kernel(rng.uniform(1, 2.5), _KERNEL)
    chroma = impulse + np.float32(rng.uniform(0.4, 1)) * (wide - impulse)
    amount = np.float32(rng.choice([0, rng.uniform(0, 1)]))
    blurred = cv2.filter2D(luma, -1, batched.gaussian_kernel(1, _KERNEL))
    luma += amount * (luma - blurred)  # unsharp mask
    return np.stack([chroma, chroma, chroma, luma - chroma])


def _mix(matrices: Tensor, images: Tensor) -> Tensor:
    """Multiply the colors of images (B, 3, H, W) by matrices (B, 3, 3)."""
    return (matrices[..., None, None] * images[:, None]).sum(2)


def bayer_sites(phase: Tensor, shape: torch.Size) -> Tensor:
    """Return the sites of red, green and blue (B, 3, H, W), 0 or 1, for phases (B, 2) of red."""
    row, column = (
        (torch.arange(side, device=phase.device) + shift[:, None]) % 2
        for side, shift in zip(shape, phase.T, strict=True)
    )
    row, column = row[:, :, None], column[:, None]
    red, blue = (1 - row) * (1 - column), row * column
    return torch.stack((red, 1 - red - blue, blue), 1).float()


def demosaic(values: Tensor, guide: Tensor, sites: Tensor, directed: Tensor) -> Tensor:
    """Interpolate the colors of a mosaic. Three pixels at the borders are invalid.

    Args:
        values: mosaic to interpolate, (B, 1, H, W).
        guide: mosaic that determines the directions, (B, 1, H, W).
        sites: result of :func:`bayer_sites`.
        directed: whether to choose a direction for green, (B, 1, 1, 1) bool.

    Returns:
        Colors (B, 3, H, W).
    """
    estimates, gradients = [], []
    for axis in (2, 3):
        estimates.append(_halfway(values, 1, axis) + _curvature(values, axis) / 4)
        slope = guide.roll(1, axis) - guide.roll(-1, axis)
        gradients.append(slope.abs() + _curvature(guide, axis).abs())
    mean = (estimates[0] + estimates[1]) / 2
    chosen = torch.where(gradients[0] < gradients[1], estimates[0], estimates[1])
    at_green = sites[:, 1:2]
    green = torch.lerp(torch.where(directed, chosen, mean), values, at_green)
    # Color differences at the sites of red and blue; 0 elsewhere.
    differences = (values - green) * sites[:, ::2]
    for axis in (2, 3):
        differences = differences + _halfway(differences, 1, axis)
    return torch.cat((green + differences[:, :1], green, green + differences[:, 1:]), 1)


def _halfway(values: Tensor, distance: int, axis: int) -> Tensor:
    """Return the means of the two neighbors at a distance along an axis."""
    return (values.roll(distance, axis) + values.roll(-distance, axis)) / 2


def _curvature(values: Tensor, axis: int) -> Tensor:
    """Return twice the differences from the means of the next sites of the same color."""
    return 2 * (values - _halfway(values, 2, axis))
