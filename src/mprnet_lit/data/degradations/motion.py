"""Motion blur of a shaken camera."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.noise import add_sensor_noise

_STEPS = 200


def camera_path(rng: np.random.Generator, shake: float) -> NDArray[np.float64]:
    """Draw the path that a shaken camera takes during an exposure: (steps, 2), of any scale.

    A particle with inertia, pushed at random, pulled back towards where it started, and now and
    then jerked (after Boracchi and Foi, "Modeling the Performance of Image Restoration from Motion
    Blur", IEEE TIP 2012, section III).

    Args:
        rng: source of all randomness.
        shake: 0 for a straight, even path; 1 for an erratic one.
    """
    angle = rng.uniform(0, 2 * np.pi)
    velocity = np.array([np.cos(angle), np.sin(angle)])
    pushes = 0.25 * shake * rng.standard_normal((_STEPS, 2))
    jerks = rng.random(_STEPS) < 0.02 * shake
    jerked_by = rng.uniform(0, 2 * np.pi, _STEPS)
    pull = 0.02 * shake * rng.random()
    position = np.zeros((_STEPS, 2))
    for step in range(1, _STEPS):
        velocity = velocity + pushes[step] - pull * position[step - 1]
        if jerks[step]:
            turn = jerked_by[step]
            velocity = 1.5 * np.array([np.cos(turn), np.sin(turn)])
        velocity = velocity / max(float(np.hypot(*velocity)), 1e-6)
        position[step] = position[step - 1] + velocity
    return position


def motion_kernel(rng: np.random.Generator, length: float, shake: float) -> NDArray[np.float32]:
    """Draw a blur kernel (k, k), k odd, that sums to 1 and has its centroid at its centre.

    Args:
        rng: source of all randomness.
        length: extent of the path in pixels, between its two points that are furthest apart.
        shake: how erratic the path is, 0 to 1.
    """
    path = camera_path(rng, shake)
    gaps = path[::3, None] - path[None, ::3]
    path = (path - path.mean(0)) * (length / np.linalg.norm(gaps, axis=-1).max())
    radius = int(np.ceil(np.abs(path).max())) + 1
    size = 2 * radius + 1
    kernel = np.zeros(size * size)
    corner = np.floor(path).astype(int)
    inside = path - corner
    for right in (0, 1):  # each point is shared by its four nearest pixels
        for down in (0, 1):
            share = np.abs(1 - right - inside[:, 0]) * np.abs(1 - down - inside[:, 1])
            at = (corner[:, 1] + down + radius) * size + corner[:, 0] + right + radius
            kernel += np.bincount(at, share, minlength=size * size)
    kernel /= kernel.sum()
    return kernel.reshape(size, size).astype(np.float32)


class MotionBlur(Degradation):
    """Blur of a camera that moves during the exposure, in linear light, with a little sensor noise.

    Args:
        length: extent of the camera's path in pixels.
        shake: how erratic the path is, from 0 (straight) to 1.
        noise: variance of the shot noise at full light.

    Raises:
        UserError: a range is out of order or out of bounds.
    """

    def __init__(
        self, length: Range = (6, 24), shake: Range = (0, 1), noise: Range = (1e-5, 2e-4)
    ) -> None:
        self.length = checked_range(self, "length", length, high=255)
        self.shake = checked_range(self, "shake", shake, high=1)
        self.noise = checked_range(self, "noise", noise, high=1)
        self.margin = int(np.ceil(self.length[1])) + 2

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Blur the image; the result is clipped to [0, 1]."""
        kernel = motion_kernel(rng, rng.uniform(*self.length), rng.uniform(*self.shake))
        light = srgb_to_linear(image)
        blurred = np.asarray(
            cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32
        ).reshape(light.shape)
        shot = rng.uniform(*self.noise)
        return linear_to_srgb(add_sensor_noise(blurred, shot, shot, rng))
