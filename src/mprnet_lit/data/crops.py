"""Crops of image pairs, or of clean images that are degraded on the fly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_convert

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.patterns import Patterns
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.images.reading import Pixels, to_float


@dataclass(eq=False, repr=False, kw_only=True)
class Crops:
    """Settings of the items of a dataset.

    An item is a dictionary with the float32 tensors ``degraded`` (3, h, w), ``target`` (3, h, w)
    and ``weight`` (a scalar), and with the string ``name``. Images are in [0, 1]; additive noise
    may exceed this range. The seed and the key of the item determine all random numbers, so that an
    item is the same in any worker, on any device and in a resumed run.

    Args:
        crop_size: side of the square crops in pixels; ``None`` for whole images. Smaller images
            are padded by reflection in training, and not padded in validation.
        training: ``True`` for random crops with augmentation that differ in each epoch; ``False``
            for center crops with the same degradation in each epoch.
        degradation: degradation that is applied to samples without a degraded image.
        patterns: patterns that are drawn onto these samples in training, before the degradation.
        augmentation: data augmentation in training.
        crops_per_image: number of items per image and epoch.
        seed: random seed.
        degrade_later: whether a clean item has ``draws`` instead of ``degraded``, and a ``target``
            with the margin of the degradation, to be degraded in a batch.
    """

    crop_size: int | None
    training: bool
    degradation: Degradation | None = None
    patterns: Patterns | None = None
    augmentation: PairedAugmentation | None = None
    crops_per_image: int = 1
    seed: int = 0
    degrade_later: bool = False

    def item(
        self, key: ItemKey, name: str, target: Pixels, degraded: Pixels | None
    ) -> dict[str, Any]:
        """Return the item of a key: a crop of a target (H, W, 3) and of its degraded image."""
        epoch = key.epoch if self.training else 0
        rng = np.random.default_rng([self.seed, self.training, epoch, key.item])
        top, left, height, width = self._box(target.shape[0], target.shape[1], rng)
        degrade = self.degradation if degraded is None else None
        margin = degrade.margin if degrade else 0
        box = (top - margin, left - margin, height + 2 * margin, width + 2 * margin)
        sharp = to_float(crop(target, *box))
        soft = None if degraded is None else to_float(crop(degraded, *box))
        if self.training and self.augmentation is not None:
            sharp, soft = self.augmentation(sharp, soft, rng)
        if self.training and self.patterns is not None and degraded is None:
            sharp = self.patterns(sharp, rng)
        item = {"name": name, "weight": torch.tensor(key.weight)}
        if degrade is not None and self.degrade_later:
            draws = default_convert(degrade.draw(sharp.shape[:2], rng))
            return {"target": to_tensor(sharp), "draws": draws, **item}
        if degrade is not None:
            soft = degrade(sharp, rng)
        assert soft is not None
        inner = slice(margin, margin + height), slice(margin, margin + width)
        return {"degraded": to_tensor(soft[inner]), "target": to_tensor(sharp[inner]), **item}

    def _box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return the top, left, height and width of the crop of an image."""
        if self.crop_size is None:
            return 0, 0, height, width
        spare = height - self.crop_size, width - self.crop_size
        if self.training:
            top, left = (int(rng.integers(max(s, 0) + 1)) for s in spare)
            return top, left, self.crop_size, self.crop_size
        return (
            max(spare[0], 0) // 2,
            max(spare[1], 0) // 2,
            min(self.crop_size, height),
            min(self.crop_size, width),
        )


def crop(image: NDArray[Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """Crop an array (H, W, C). A crop beyond the borders is padded by reflection."""
    bottom, right = top + height, left + width
    padding = (
        (max(-top, 0), max(bottom - image.shape[0], 0)),
        (max(-left, 0), max(right - image.shape[1], 0)),
        (0, 0),
    )
    inside = image[max(top, 0) : bottom, max(left, 0) : right]
    return np.pad(inside, padding, mode="reflect") if np.any(padding) else inside


def to_tensor(image: Pixels | NDArray[np.float32]) -> torch.Tensor:
    """Convert an array (H, W, 3) to a tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
