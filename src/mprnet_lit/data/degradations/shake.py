"""Motion blur that varies over the image: rotations of the camera, and moving parts."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.motion import camera_path
from mprnet_lit.utils.checks import require_generator, require_image
from mprnet_lit.utils.errors import UserError

LIGHTS = ("linear", "display")
_POSES = 30
"""Maximum number of camera poses whose views are averaged."""
_SPACING = 1.25
"""Distance in pixels between poses, unless the path is longer than the maximum number of poses."""
_WHITE = 0.95
"""sRGB value from which the light of the scene may exceed white."""


class Poses(NamedTuple):
    """Camera poses of an exposure.

    Attributes:
        views: homographies (N, 3, 3) float64 from the pixels of a view to those of the sharp image.
        shares: fractions of the exposure (N,) float64, with a sum of 1.
    """

    views: NDArray[np.float64]
    shares: NDArray[np.float64]


def camera_poses(
    angles: NDArray[np.float64],
    shape: tuple[int, int],
    length: float,
    focal: float,
    center: NDArray[np.float64],
) -> Poses:
    """Compute the poses of a rotating camera during an exposure.

    Rotations cause most of the blur of hand-held cameras: each pose maps the sharp image by a
    homography (Whyte et al., "Non-uniform Deblurring for Shaken Images", CVPR 2010, IJCV 2012). The
    shares are the motion density function of Gupta et al. (ECCV 2010). Poses are about one pixel
    apart, so that the blurred image has no ghosts.

    Args:
        angles: rotations about the x, y and optical axes at regular times, (T, 3) float64 of
            arbitrary scale. Their mean is subtracted: to first order, the average displacement of
            each pixel is zero.
        shape: height and width of the image.
        length: diameter in pixels of the longest path of a corner of the image, at least 0.
        focal: focal length in pixels, above 0.
        center: pixel (x, y) on the optical axis, possibly outside the image.

    Returns:
        At most 30 poses, ordered by time.
    """
    height, width = shape
    x, y = np.meshgrid([0, width - 1], [0, height - 1])
    corners = np.stack((x - center[0], y - center[1], np.full((2, 2), focal)), axis=-1) / focal
    moved = np.cross(angles - angles.mean(0), corners.reshape(4, 1, 3))
    flow = focal * (moved[..., :2] - corners.reshape(4, 1, 3)[..., :2] * moved[..., 2:])
    paths = flow[..., 0] + 1j * flow[..., 1]
    directions = np.exp(1j * np.pi * np.arange(16) / 16)
    diameter = np.ptp((paths * directions[:, None, None]).real, axis=-1).max()
    scale = length / max(diameter, 1e-9)
    steps = scale * np.abs(np.diff(paths)).max(0, initial=0)
    along = np.append(0, np.cumsum(steps))
    spacing = max(_SPACING, along[-1] / (_POSES - 1))
    _, pose, count = np.unique(np.round(along / spacing), return_inverse=True, return_counts=True)
    shares = count / len(angles)
    mean = np.stack([np.bincount(pose, axis) for axis in angles.T], axis=1) / count[:, None]
    rotations = Rotation.from_rotvec(scale * (shares @ mean - mean)).as_matrix()
    camera = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    return Poses(camera @ rotations @ np.linalg.inv(camera), shares)


def disk(radius: float) -> NDArray[np.float32]:
    """Return the kernel of a defocused lens, a disk with a soft edge, (k, k) float32, k odd."""
    size = int(np.ceil(radius))
    distance = np.hypot(*np.mgrid[-size : size + 1, -size : size + 1])
    kernel = np.clip(radius + 0.5 - distance, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def blob(shape: tuple[int, int], rng: np.random.Generator, share: float) -> NDArray[np.float32]:
    """Draw the mask of a smooth random shape.

    Args:
        shape: height and width of the mask.
        rng: random generator.
        share: fraction of the area inside the shape, from 0 to 1.

    Returns:
        Mask (H, W) float32, 0 outside, 1 inside, with a border about 3 pixels wide.
    """
    height, width = shape
    coarse = rng.standard_normal((4, 4), dtype=np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    level = np.quantile(smooth, 1 - share)
    return np.clip(0.5 + (smooth - level) * (min(shape) / 12), 0, 1).astype(np.float32)


class CameraShake(Degradation):
    """Blur by the rotation of a hand-held camera about three axes, and slight defocus.

    The blurred image is the average of the views along a random path of the camera, as the images
    of GoPro are averages of 7 to 13 frames of a video (Nah et al., CVPR 2017). Sensors average
    linear light, and videos without inverse gamma correction average display light (sRGB values).
    The angles follow :func:`camera_path`, after Boracchi and Foi (IEEE TIP 2012); the geometry is
    that of :func:`camera_poses`. The optical axis is up to half a focal length away from the
    center, as in a crop of a larger photograph.

    Args:
        length: diameter in pixels of the longest path of a pixel during the exposure. 0 returns the
            image without motion.
        shake: irregularity of the path, from 0 (straight, with constant speed) to 1.
        roll: rotation about the optical axis, relative to that about the other axes.
        focal: focal length in pixels; a short one makes the blur less uniform.
        defocus: radius in pixels of the disk of an out-of-focus point, at most 20.
        light: averaged values, "linear" or "display", or a list to draw from.
        highlights: brightness of white areas in linear light, at least 1, because lights that are
            clipped in a sharp photograph leave bright traces in a blurred one.

    Raises:
        UserError: a range is descending or out of bounds, or ``light`` is unknown.
    """

    def __init__(
        self,
        length: Range = (0, 30),
        shake: Range = (0, 1),
        roll: Range = (0, 3),
        focal: Range = (500, 1500),
        defocus: Range = (0, 1),
        light: str | Sequence[str] = LIGHTS,
        highlights: Range = (1, 3),
    ) -> None:
        self.length = checked_range(self, "length", length, high=255)
        self.shake = checked_range(self, "shake", shake, high=1)
        self.roll = checked_range(self, "roll", roll)
        self.focal = checked_range(self, "focal", focal, low=10)
        self.defocus = checked_range(self, "defocus", defocus, high=20)
        self.highlights = checked_range(self, "highlights", highlights, low=1)
        chosen = light if isinstance(light, Sequence) else ()
        self.light = [chosen] if isinstance(chosen, str) else list(chosen)
        if not self.light or not all(name in LIGHTS for name in self.light):
            raise UserError(
                f"{type(self).__name__} light={light} must be one or more of {', '.join(LIGHTS)}"
            )
        self.margin = int(np.ceil(self.length[1]) + np.ceil(self.defocus[1])) + 1

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Blur the image; the result is clipped to [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        height, width = image.shape[:2]
        poses = self._poses((height, width), rng)
        kernel = disk(rng.uniform(*self.defocus))
        linear = self.light[rng.integers(len(self.light))] == "linear"
        highlights = rng.uniform(*self.highlights)
        mask = self._mask((height, width), rng)
        values = np.clip(image, 0, 1)
        if linear:
            excess = (highlights - 1) * np.clip((values - _WHITE) / (1 - _WHITE), 0, 1)
            values = srgb_to_linear(image) * (1 + excess).astype(np.float32)
        blurred = _average(values, mask, poses, kernel)
        return linear_to_srgb(blurred) if linear else np.clip(blurred, 0, 1)

    def _poses(self, shape: tuple[int, int], rng: np.random.Generator) -> Poses:
        length, shake, roll, focal = (
            rng.uniform(*bounds) for bounds in (self.length, self.shake, self.roll, self.focal)
        )
        pan, turn = camera_path(rng, shake), camera_path(rng, shake).real
        turn *= roll * np.hypot(np.ptp(pan.real), np.ptp(pan.imag)) / max(np.ptp(turn), 1e-9)
        center = (np.array(shape[::-1]) - 1) / 2 + rng.uniform(-focal / 2, focal / 2, 2)
        angles = np.stack((pan.real, pan.imag, turn), axis=1)
        return camera_poses(angles, shape, length, focal, center)

    def _mask(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the part of the image that moves: all of it."""
        return np.ones(shape, np.float32)


class MovingPart(CameraShake):
    """Blur of a moving part of the scene before a still background.

    The part is a smooth random shape. Its average coverage during the exposure blends it with the
    background, whose pixels behind the part are extrapolated. The arguments are those of
    :class:`CameraShake`, for the motion of the part, and:

    Args:
        area: fraction of the image that the part covers, from 0 to 1.
    """

    def __init__(self, *args: object, area: Range = (0.2, 0.7), **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.area = checked_range(self, "area", area, high=1)

    def _mask(self, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw the part of the image that moves: a random shape."""
        return blob(shape, rng, rng.uniform(*self.area))


def _average(
    values: Image, mask: NDArray[np.float32], poses: Poses, kernel: NDArray[np.float32]
) -> Image:
    """Average the views of a moving part before the still background."""
    height, width = mask.shape
    part = np.dstack((values * mask[..., None], mask))
    total, view = np.zeros_like(part), np.empty_like(part)
    for homography, share in zip(poses.views, poses.shares.tolist(), strict=True):
        cv2.warpPerspective(
            part, homography, (width, height), view,
            cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        cv2.scaleAdd(view, share, total, total)
    cover = total[..., 3:]
    blurred = total[..., :3]
    if cover.min() < 1 - 1e-4:
        blurred = blurred + (1 - cover) * _background(values, mask, 31)
    if len(kernel) > 1:
        blurred = cv2.filter2D(blurred, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return blurred


def _background(values: Image, mask: NDArray[np.float32], size: int) -> Image:
    """Extrapolate the background behind a part from the mean of the pixels around it."""
    outside = 1 - mask[..., None]
    near = cv2.blur(np.dstack((values * outside, outside)), (size, size))
    return values * outside + (1 - outside) * near[..., :3] / np.maximum(near[..., 3:], 1e-3)
