"""Motion blur by camera shake."""

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.degradations.base import Range, checked_range
from mprnet_lit.data.degradations.kernel_blur import KernelBlur
from mprnet_lit.utils.checks import require_generator, require_number

_STEPS = 200
"""Number of points of a camera path."""
_SPACING = 0.5
"""Maximum distance in pixels between the points that form a kernel."""


def camera_path(rng: np.random.Generator, shake: float) -> NDArray[np.complex128]:
    """Draw the path of a shaking camera during an exposure.

    The path is the random motion of a particle with inertia. The particle is pulled back toward its
    start and sometimes jerked. The model follows Boracchi and Foi, "Modeling the Performance of
    Image Restoration from Motion Blur" (IEEE TIP 2012). Unlike in the paper, the speed varies, so
    that the kernel is brighter where the camera is slow.

    Args:
        rng: random generator.
        shake: irregularity of the path, from 0 (straight, with constant speed) to 1.

    Returns:
        Positions x + iy, (200,) complex128, of arbitrary scale.

    Raises:
        UserError: ``rng`` is not a ``numpy.random.Generator``, or ``shake`` is outside [0, 1].
    """
    require_generator(rng)
    require_number("shake", shake, low=0, high=1)
    velocity = complex(np.exp(2j * np.pi * rng.random()))
    pushes = 0.1 * shake * (rng.standard_normal(_STEPS) + 1j * rng.standard_normal(_STEPS))
    jerked = rng.random(_STEPS) < 0.01 * shake
    pushes += 1.5 * jerked * np.exp(2j * np.pi * rng.random(_STEPS))
    pull = 0.002 * shake * rng.random()
    position, path = 0j, []
    for push in pushes.tolist():
        path.append(position)
        velocity += push - pull * position
        position += velocity
    return np.array(path)


def motion_kernel(
    rng: np.random.Generator, length: float, shake: float = 0.5
) -> NDArray[np.float32]:
    """Draw a motion blur kernel.

    Args:
        rng: random generator.
        length: diameter of the path in pixels (the maximum distance between two of its points),
            from 0 to 255.
        shake: irregularity of the path, from 0 (straight) to 1.

    Returns:
        Kernel (k, k) float32, k odd, with a sum of 1 and its centroid at the center.

    Raises:
        UserError: an argument is out of range.
    """
    require_number("length", length, low=0, high=255)
    path = camera_path(rng, shake)
    path *= length / np.abs(path[:, None] - path).max()
    between = max(1, int(np.ceil(np.abs(np.diff(path)).max() / _SPACING)))
    steps = np.arange(_STEPS)
    path = np.interp(np.linspace(0, _STEPS - 1, (_STEPS - 1) * between + 1), steps, path)
    path -= path.mean()
    radius = int(np.ceil(max(np.abs(path.real).max(), np.abs(path.imag).max()))) + 1
    size = 2 * radius + 1
    left, top = np.floor(path.real).astype(int), np.floor(path.imag).astype(int)
    x, y = path.real - left, path.imag - top
    corner = (top + radius) * size + left + radius
    # Bilinear weights of the four nearest pixels of each point.
    at = np.concatenate((corner, corner + 1, corner + size, corner + size + 1))
    weights = np.concatenate(((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y))
    kernel = np.bincount(at, weights, minlength=size * size) / len(path)
    return kernel.reshape(size, size).astype(np.float32)


class MotionBlur(KernelBlur):
    """Motion blur by camera shake in linear light, with weak sensor noise.

    Args:
        length: diameter of the camera path in pixels, at most 255.
        shake: irregularity of the path, from 0 (straight) to 1.
        noise: variance of the shot noise at full intensity. :func:`typical_read_noise` draws the
            matching read noise.

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(
        self, length: Range = (5, 20), shake: Range = (0, 1), noise: Range = (1e-5, 2e-4)
    ) -> None:
        self.length = checked_range(self, "length", length, high=255)
        self.shake = checked_range(self, "shake", shake, high=1)
        self.noise = checked_range(self, "noise", noise, high=1)
        self.margin = int(np.ceil(self.length[1])) + 1

    def kernel(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw a kernel; see :meth:`KernelBlur.kernel`."""
        return motion_kernel(rng, rng.uniform(*self.length), rng.uniform(*self.shake))
