"""Motion blur that varies over the image: rotations of the camera, and moving parts."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw, disk, per_image
from mprnet_lit.data.degradations.color import linear_to_srgb, srgb_to_linear
from mprnet_lit.data.degradations.motion import camera_path
from mprnet_lit.data.degradations.poses import Poses, camera_poses
from mprnet_lit.utils.checks import require_generator, require_image
from mprnet_lit.utils.errors import UserError

LIGHTS = ("linear", "display")
_WHITE = 254.5 / 255
"""Smallest sRGB value of the channels of a white pixel, whose light is clipped."""


class CameraShake(Degradation):
    """Blur by rotations of a hand-held camera about three axes, with slight defocus.

    The blurred image is the average of the views along a random path of the camera, with one view
    per pixel of the path. The images of GoPro, which are averages of 7 to 13 frames of a video (Nah
    et al., CVPR 2017), approximate such averages. A sensor averages linear light; averages of video
    frames without inverse gamma correction are averages of display light (sRGB values).

    The angles are paths of :func:`.motion.camera_path`, and the views those of
    :func:`.poses.camera_poses`. The optical center is up to half a focal length away from the
    center of the image in each direction, because training images are crops of photographs.

    Args:
        length: diameter in pixels of the longest path of a pixel, at most 255. 0 for no motion.
        shake: irregularity of the path, from 0 (straight, with constant speed) to 1.
        roll: angle of the rotation about the optical axis, relative to that about the other axes.
        focal: focal length in pixels, at least 10. The shorter, the less uniform is the blur.
        defocus: radius in pixels of the disk of a point that is out of focus, at most 20.
        light: averaged values, "linear" or "display", or a list to draw from.
        highlights: brightness of white pixels in linear light, at least 1. A light source that a
            sharp image clips leaves a bright trace in a blurred one (Rim et al., ECCV 2022).

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
        draws = self.draw(image.shape[:2], rng)
        values = np.ascontiguousarray(np.clip(image, 0, 1), np.float32)
        if draws["shares"][0] == 1 and draws["kernel"].max() == 1:
            return values
        if draws["linear"]:
            white = values.min(axis=-1, keepdims=True) > _WHITE
            values = srgb_to_linear(values) * (1 + white * draws["excess"])
        seen, border = self._expose(values, draws), cv2.BORDER_REFLECT_101
        blurred = np.asarray(cv2.filter2D(seen, -1, draws["kernel"], borderType=border), np.float32)
        return linear_to_srgb(blurred) if draws["linear"] else np.clip(blurred, 0, 1)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the poses, the disk, the light and its excess; see :meth:`Degradation.draw`."""
        poses = self._poses(shape, rng)
        return {
            "views": poses.views,
            "shares": poses.shares,
            "kernel": disk(rng.uniform(*self.defocus), self.defocus[1]),
            "linear": np.bool_(self.light[rng.integers(len(self.light))] == "linear"),
            "excess": np.float32(rng.uniform(*self.highlights) - 1),
        }

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Blur the images; see :meth:`Degradation.degrade_batch`."""
        linear = per_image(draws["linear"])
        values = clean.clamp(0, 1)
        white = values.amin(dim=1, keepdim=True) > _WHITE
        light = batched.srgb_to_linear(values) * (1 + white * per_image(draws["excess"]))
        values = torch.where(linear, light, values)
        blurred = self._expose_batch(values, draws)
        sides = self.margin - draws["kernel"].shape[-1] // 2
        blurred = batched.correlate(batched.trim(blurred, sides), draws["kernel"][:, None])
        return torch.where(linear, batched.linear_to_srgb(blurred), blurred.clamp(0, 1))

    def _poses(self, shape: tuple[int, int], rng: np.random.Generator) -> Poses:
        length, shake, roll, focal = (
            rng.uniform(*bounds) for bounds in (self.length, self.shake, self.roll, self.focal)
        )
        pan, turn = camera_path(rng, shake), camera_path(rng, shake).real
        turn *= roll * np.hypot(np.ptp(pan.real), np.ptp(pan.imag)) / max(np.ptp(turn), 1e-9)
        center = (np.array(shape[::-1]) - 1) / 2 + rng.uniform(-focal / 2, focal / 2, 2)
        angles = np.stack((-pan.imag, pan.real, turn), axis=1)  # move the center along the path
        return camera_poses(angles, shape, length, focal, center)

    def _expose(self, values: Image, draws: Draw) -> Image:
        """Average the views of an image (H, W, 3)."""
        fourth = np.zeros_like(values[..., :1])  # OpenCV warps four channels faster than three
        return _mean_view(np.concatenate((values, fourth), axis=-1), draws)[..., :3]

    def _expose_batch(self, values: Tensor, draws: Draw) -> Tensor:
        """Average the views of images (B, 3, H, W)."""
        return _mean_views(values, draws)


class MovingPart(CameraShake):
    """Blur of a moving part of the scene in front of a still background.

    The part is a smooth random shape. The fraction of the exposure during which it covers a pixel
    blends it with the background. The background behind the part is extrapolated.

    Args:
        area: fraction of the image that the part covers, from 0 to 1.
        motion: arguments of :class:`CameraShake` for the motion of the part. ``defocus`` applies to
            the whole image.

    Raises:
        UserError: a range is descending or out of bounds, or ``light`` is unknown.
    """

    def __init__(self, area: Range = (0.2, 0.7), **motion: Any) -> None:
        super().__init__(**motion)
        self.area = checked_range(self, "area", area, high=1)
        self._window = 2 * int(np.ceil(self.length[1])) + 1

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw also the mask of the part; see :meth:`Degradation.draw`."""
        return {**super().draw(shape, rng), "mask": _blob(shape, rng, rng.uniform(*self.area))}

    def _expose(self, values: Image, draws: Draw) -> Image:
        mask = draws["mask"][..., None]
        seen = _mean_view(np.concatenate((values * mask, mask), axis=-1), draws)
        size = self._window, self._window
        around = cv2.blur(np.concatenate((values * (1 - mask), 1 - mask), axis=-1), size)
        hidden = around[..., :3] / np.maximum(around[..., 3:], 1e-3)
        background: Image = values + mask * (hidden - values)
        return seen[..., :3] + (1 - seen[..., 3:]) * background

    def _expose_batch(self, values: Tensor, draws: Draw) -> Tensor:
        mask = draws["mask"][:, None]
        seen = _mean_views(torch.cat((values * mask, mask), dim=1), draws)
        border = [self._window // 2] * 4
        outside = F.pad(torch.cat((values * (1 - mask), 1 - mask), dim=1), border, "reflect")
        rows = F.avg_pool2d(outside, (1, self._window), stride=1)
        around = F.avg_pool2d(rows, (self._window, 1), stride=1)
        hidden = around[:, :3] / around[:, 3:].clamp(min=1e-3)
        background: Tensor = values + mask * (hidden - values)
        return seen[:, :3] + (1 - seen[:, 3:]) * background


def _mean_view(image: Image, draws: Draw) -> Image:
    """Average the views (H, W, 4) of an image."""
    height, width = image.shape[:2]
    mean, view = np.zeros_like(image), np.empty_like(image)
    for homography, share in zip(draws["views"], draws["shares"].tolist(), strict=True):
        if share:
            cv2.warpPerspective(
                image, homography, (width, height), view,
                cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101,
            )  # fmt: skip
            cv2.scaleAdd(view, share, mean, mean)
    return mean


def _mean_views(images: Tensor, draws: Draw) -> Tensor:
    """Average the views (B, C, H, W) of each image of a batch."""
    height, width = images.shape[-2:]
    y, x = (torch.arange(side, device=images.device).float() for side in (height, width))
    mean = torch.zeros_like(images)
    for views, shares in zip(draws["views"].unbind(1), draws["shares"].unbind(1), strict=True):
        # Not a matrix product, whose precision depends on TF32 settings of torch.
        columns, rows, origin = views[..., None].unbind(2)
        across, down, depth = ((columns * x)[:, :, None] + (rows * y + origin)[..., None]).unbind(1)
        at = torch.stack((across / depth * (2 / x[-1]) - 1, down / depth * (2 / y[-1]) - 1), dim=-1)
        view = F.grid_sample(images, at, padding_mode="reflection", align_corners=True)
        mean += per_image(shares) * view
    return mean


def _blob(shape: tuple[int, int], rng: np.random.Generator, area: float) -> NDArray[np.float32]:
    """Draw the mask (H, W) of a smooth shape with a border one or two pixels wide.

    Args:
        shape: height and width of the mask.
        rng: random generator.
        area: fraction of the pixels inside the shape, where the mask is 1.
    """
    coarse = rng.standard_normal((4, 4), dtype=np.float32)
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    inside = smooth - np.quantile(smooth[::4, ::4], 1 - area)
    return np.asarray(np.clip(0.5 + inside * min(shape) / 6, 0, 1), np.float32)
