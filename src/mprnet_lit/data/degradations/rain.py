"""Synthetic rain."""

import numpy as np
from torch import Tensor

from mprnet_lit.data.degradations import batched
from mprnet_lit.data.degradations.base import Degradation, Image, Range, checked_range
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.data.degradations.haze import cover
from mprnet_lit.data.degradations.streaks import Layer, Look, draw_layer, kernel_radius
from mprnet_lit.utils.checks import require_generator, require_image

_SKY = 0.85
"""Gray level of the haze, sRGB in [0, 1]."""


class RainStreaks(Degradation):
    """Rain, from a few drops to sheets of streaks, in several layers of depth.

    Near layers have few long, wide and bright streaks, far layers many short, thin and faint ones.
    The defaults are the sparse rain of Luo et al. (ICCV 2015): similar angles and the screen blend
    of sRGB values. Other arguments give the dense rain of several directions that is added to the
    image (Rain100H of Yang et al., CVPR 2017), and the blurred streaks of photographs, which hide a
    part of the background (Garg and Nayar, "Vision and Rain", IJCV 2007).

    A layer consists of drawn lines that are blurred along their main direction and across it. With
    ``motion=1`` the lines are points, as in the common recipe of image editors: noise with motion
    blur. Layers are added from the farthest to the nearest one: ``image * (1 - occlusion *
    streaks) + level * streaks``. The result is clipped to [0, 1]. Streaks that start outside of the
    image are included, so that ``margin`` is 0. :class:`Haze` adds the veil of heavy rain.

    Args:
        layers: number of layers, 1 to 10.
        density: streaks per megapixel in the nearest layer, at most 1e6; farther layers have more.
        length: length of a streak in the nearest layer in pixels, 1 to 1000.
        width: full width at half maximum of a streak in the nearest layer in pixels, 1 to 50.
        angle: angle between the streaks and the vertical in degrees, 0 to 90; its sign is random.
        brightness: maximum brightness of a streak in the nearest layer, 0 to 1.
        haze: opacity of a uniform gray haze behind the rain, 0 to 1; 0 by default, as in Rain100
            and most of Rain13K.
        spread: standard deviation of the angles around their main direction in degrees, 0 to 90.
        directions: number of main directions, 1 to 10. The layers alternate between them.
        falloff: ratio of length, width, brightness and 1 / density of successive layers, 0.1 to 1.
        motion: fraction of the length that is motion blur, from 0 (sharp ends) to 1 (blurred points
            that fade toward both ends).
        occlusion: fraction of the background that an opaque streak hides, from 0 (added streaks)
            to 1 (blended streaks; a screen blend if ``level`` is 1).
        level: gray level of an opaque streak, sRGB in [0, 1].

    Raises:
        UserError: a range is descending or out of bounds.
    """

    def __init__(
        self,
        layers: Range = (1, 3),
        density: Range = (300, 1800),
        length: Range = (25, 80),
        width: Range = (1.5, 3),
        angle: Range = (0, 30),
        brightness: Range = (0.3, 0.8),
        haze: Range = 0,
        spread: Range = 2,
        directions: Range = 1,
        falloff: Range = 0.6,
        motion: Range = 0,
        occlusion: Range = 1,
        level: Range = 1,
    ) -> None:
        self.layers = checked_range(self, "layers", layers, low=1, high=10)
        self.density = checked_range(self, "density", density, high=1e6)
        self.length = checked_range(self, "length", length, low=1, high=1000)
        self.width = checked_range(self, "width", width, low=1, high=50)
        self.angle = checked_range(self, "angle", angle, high=90)
        self.brightness = checked_range(self, "brightness", brightness, high=1)
        self.haze = checked_range(self, "haze", haze, high=1)
        self.spread = checked_range(self, "spread", spread, high=90)
        self.directions = checked_range(self, "directions", directions, low=1, high=10)
        self.falloff = checked_range(self, "falloff", falloff, low=0.1, high=1)
        self.motion = checked_range(self, "motion", motion, high=1)
        self.occlusion = checked_range(self, "occlusion", occlusion, high=1)
        self.level = checked_range(self, "level", level, high=1)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Add rain and haze; the result is in [0, 1]. See :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        layers = self._layers(image.shape[:2], rng)
        haze, occlusion, level = self._blend(rng)
        rainy: Image = cover(np.clip(image, 0, 1, order="C", dtype=np.float32), haze, _SKY)
        for layer, brightness in reversed(layers):
            streaks = brightness * layer.opacity()[..., None]
            rainy = cover(rainy, streaks, level, occlusion)
        return np.clip(rainy, 0, 1)

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the lines of all layers with the kernels of their blur, the blend, and the haze.

        The parameters of absent layers are 0. See :meth:`Degradation.draw`.
        """
        count = round(self.layers[1])
        radius = kernel_radius(self.length[1] * self.motion[1], self.width[1])
        canvases = np.zeros((count, *(side + 2 * radius for side in shape)), np.uint8)
        kernels = np.zeros((count, 2 * radius + 1, 2 * radius + 1), np.float32)
        brightness = np.zeros(count, np.float32)
        for k, (layer, value) in enumerate(self._layers(shape, rng)):
            canvases[k] = np.pad(layer.canvas, radius - layer.radius)
            kernels[k] = np.pad(layer.kernel, radius - layer.radius)
            brightness[k] = value
        blend = dict(zip(("haze", "occlusion", "level"), self._blend(rng), strict=True))
        return {"canvases": canvases, "kernels": kernels, "brightness": brightness, **blend}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Add rain and haze; see :meth:`Degradation.degrade_batch`."""
        haze, occlusion, level, brightness = (
            batched.per_image(draws[name]) for name in ("haze", "occlusion", "level", "brightness")
        )
        rainy = cover(clean.clamp(0, 1), haze, _SKY)
        opacity = batched.correlate(draws["canvases"].float(), draws["kernels"]).clamp(0, 1)
        for streaks in reversed((brightness * opacity).split(1, dim=1)):
            rainy = cover(rainy, streaks, level, occlusion)
        return rainy.clamp(0, 1)

    def _blend(self, rng: np.random.Generator) -> list[np.float32]:
        """Draw the haze, the occlusion and the level."""
        return [
            np.float32(_draw(bounds, rng)) for bounds in (self.haze, self.occlusion, self.level)
        ]

    def _layers(
        self, shape: tuple[int, int], rng: np.random.Generator
    ) -> list[tuple[Layer, np.float32]]:
        """Draw the layers of an image (H, W) and their brightness, the nearest layer first."""
        directions = _draw_whole(self.directions, rng)
        angles = [_draw(self.angle, rng) * rng.choice([-1, 1]) for _ in range(directions)]
        density, length, width, spread, falloff, motion = (
            _draw(bounds, rng)
            for bounds in (
                *(self.density, self.length, self.width),
                *(self.spread, self.falloff, self.motion),
            )
        )
        layers = []
        for depth in range(_draw_whole(self.layers, rng)):
            near = falloff**depth
            brightness = np.float32(_draw(self.brightness, rng) * near)
            look = Look(length * near, width * near, angles[depth % directions], spread, motion)
            layers.append((draw_layer(shape, density / near, look, rng), brightness))
        return layers


def _draw(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a number; a constant takes nothing from the generator."""
    low, high = bounds
    return rng.uniform(low, high) if low < high else low


def _draw_whole(bounds: tuple[float, float], rng: np.random.Generator) -> int:
    """Draw a whole number; a constant takes nothing from the generator."""
    low, high = np.rint(bounds).astype(int).tolist()
    return int(rng.integers(low, high, endpoint=True)) if low < high else low
