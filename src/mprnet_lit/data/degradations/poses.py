"""Camera poses during an exposure, as homographies of the image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

POSES = 30
"""Maximum number of poses."""
_SPACING = 1.25
"""Distance in pixels between poses, unless that needs more than the maximum number of poses."""
_DIRECTIONS = np.exp(1j * np.pi * np.arange(16) / 16)
"""Directions in which the diameter of a path is measured, with an error of at most 0.5 %."""


class Poses(NamedTuple):
    """Camera poses during an exposure.

    Attributes:
        views: homographies from the pixels of the view of a pose to those of the sharp image,
            (POSES, 3, 3) float32.
        shares: fractions of the exposure, (POSES,) float32 with a sum of 1. Unused poses at the end
            have a share of 0.
    """

    views: NDArray[np.float32]
    shares: NDArray[np.float32]


def camera_poses(
    angles: NDArray[np.float64],
    shape: tuple[int, int],
    length: float,
    focal: float,
    center: NDArray[np.float64],
) -> Poses:
    """Compute the poses of a rotating camera.

    Rotations cause most of the blur of hand-held cameras. A rotation R maps the image by the
    homography K R K^-1, where K contains the focal length and the optical center (Whyte et al.,
    "Non-uniform Deblurring for Shaken Images", CVPR 2010, IJCV 2012). The shares are the motion
    density function of Gupta et al., "Single Image Deblurring Using Motion Density Functions" (ECCV
    2010). Each pose represents a piece of the path of about a pixel, so that the average of the
    views has no ghosts.

    Args:
        angles: rotations from the view to the sharp image about the x, y and optical axes, at
            regular times, (T, 3) float64 of arbitrary scale. Their mean is subtracted: to first
            order, the average displacement of each pixel is zero.
        shape: height and width of the image.
        length: diameter in pixels of the longest path of a corner of the image, at least 0.
        focal: focal length in pixels, above 0.
        center: pixel (x, y) on the optical axis, possibly outside the image.
    """
    height, width = shape
    x, y = np.meshgrid([0, width - 1], [0, height - 1])
    rays = np.stack((x - center[0], y - center[1], np.full((2, 2), focal)), -1) / focal
    rays = rays.reshape(4, 1, 3)
    moved = np.cross(angles - angles.mean(0), rays)
    flow = focal * (moved[..., :2] - rays[..., :2] * moved[..., 2:])
    paths = flow[..., 0] + 1j * flow[..., 1]  # of the corners, to first order
    diameter = np.ptp((paths * _DIRECTIONS[:, None, None]).real, axis=-1).max()
    scale = length / max(diameter, 1e-9)
    traveled = np.append(0, np.cumsum(scale * np.abs(np.diff(paths)).max(0)))
    spacing = max(_SPACING, traveled[-1] / (POSES - 1))
    nearest = np.round(traveled / spacing).astype(int)
    _, pose, count = np.unique(nearest, return_inverse=True, return_counts=True)
    shares = count / len(angles)
    means = np.stack([np.bincount(pose, axis) for axis in angles.T], axis=1) / count[:, None]
    rotations = Rotation.from_rotvec(scale * (means - shares @ means)).as_matrix()
    camera = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    views = camera @ rotations @ np.linalg.inv(camera)
    unused = POSES - len(shares)
    return Poses(
        np.pad(views / views[:, 2:, 2:], ((0, unused), (0, 0), (0, 0))).astype(np.float32),
        np.pad(shares, (0, unused)).astype(np.float32),
    )
