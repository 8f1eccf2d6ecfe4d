"""Crops of image pairs, each a pure function of the seed and the item's key."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.data.sources import Sample
from mprnet_lit.data.store import SUFFIX, open_pixels
from mprnet_lit.images.reading import read_image, to_float
from mprnet_lit.utils.errors import UserError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class ImageCache:
    """Decoded images, the least recently used dropped beyond ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._images: OrderedDict[Path, Pixels] = OrderedDict()

    def read(self, path: Path) -> Pixels:
        """Return the image (H, W, 3), decoded unless it is held; one of a store is mapped."""
        if path.suffix == SUFFIX:
            return open_pixels(path)
        if path in self._images:
            self._images.move_to_end(path)
            return self._images[path]
        image = read_image(path)
        if image.nbytes <= self.limit:
            self._images[path] = image
            self.held += image.nbytes
            while self.held > self.limit:
                self.held -= self._images.popitem(last=False)[1].nbytes
        return image


def crop(image: NDArray[Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
    """Cut (height, width) out of (H, W, 3) at ``top``, ``left``; what lies outside is reflected."""
    bottom, right = top + height, left + width
    inside = image[max(top, 0) : bottom, max(left, 0) : right]
    pad_top, pad_left = max(-top, 0), max(-left, 0)
    pad_bottom = height - pad_top - inside.shape[0]
    pad_right = width - pad_left - inside.shape[1]
    if pad_top or pad_left or pad_bottom or pad_right:
        inside = np.pad(
            inside, ((pad_top, pad_bottom), (pad_left, pad_right), (0, 0)), mode="reflect"
        )
    return inside


class CropDataset(Dataset[dict[str, Any]]):
    """Crops of pairs, or of clean images degraded on the fly.

    An item is ``degraded`` and ``target``: (3, h, w) float32 in [0, 1] (additive noise may leave
    that range), ``name`` and ``weight``. Everything random about it comes from the seed and the
    key, so it is the same in any worker, on any device and in a resumed run.

    Args:
        samples: what to cut from.
        crop_size: side of the square crop; smaller images are reflect-padded to it in training,
            and taken whole in validation. ``None`` for whole images.
        training: cut at random positions, augment, and draw anew in each epoch; else cut the
            centre and draw the same degradation each time.
        degradation: makes the degraded image where a sample has none.
        augmentation: applied in training.
        crops_per_image: items per image and epoch.
        seed: of all draws.
        cache_bytes: bound of the decoded images held in memory, per process.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        crop_size: int | None,
        *,
        training: bool,
        degradation: Degradation | None = None,
        augmentation: PairedAugmentation | None = None,
        crops_per_image: int = 1,
        seed: int = 0,
        cache_bytes: int = 0,
    ) -> None:
        self.samples = samples
        self.crop_size = crop_size
        self.training = training
        self.degradation = degradation
        self.augmentation = augmentation
        self.crops_per_image = crops_per_image
        self.seed = seed
        self.cache = ImageCache(cache_bytes)

    def __len__(self) -> int:
        return len(self.samples) * self.crops_per_image

    def __getitem__(self, key: ItemKey) -> dict[str, Any]:
        sample = self.samples[key.item % len(self.samples)]
        epoch = key.epoch if self.training else 0
        rng = np.random.default_rng([self.seed, self.training, epoch, key.item])
        top, left, height, width = self._place(sample, rng)

        degrade = self.degradation if sample.degraded is None else None
        margin = degrade.margin if degrade else 0
        box = (top - margin, left - margin, height + 2 * margin, width + 2 * margin)
        target = to_float(crop(self._read(sample.target, sample), *box))
        degraded = None
        if sample.degraded is not None:
            degraded = to_float(crop(self._read(sample.degraded, sample), *box))
        if self.training and self.augmentation is not None:
            target, degraded = self.augmentation(target, degraded, rng)
        if degrade is not None:
            degraded = degrade(target, rng)
        assert degraded is not None
        inner = slice(margin, margin + height), slice(margin, margin + width)
        return {
            "degraded": to_tensor(degraded[inner]),
            "target": to_tensor(target[inner]),
            "name": sample.name,
            "weight": torch.tensor(key.weight),
        }

    def _read(self, path: Path, sample: Sample) -> Pixels:
        try:
            image = self.cache.read(path)
        except UserError as error:
            if path.exists() or path.suffix == SUFFIX:  # a store has its own advice
                raise
            raise UserError(
                f"{path} was there when the images were listed and is gone: put it back and go on "
                "with resume=auto, or begin without it"
            ) from error
        height, width = image.shape[:2]
        if (height, width) != (sample.height, sample.width):
            raise UserError(
                f"{path} is {width}x{height} now and was {sample.width}x{sample.height} when it "
                "was listed: leave images alone while they are in use, and run again"
            )
        return image

    def _place(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return the crop's top, left, height and width."""
        if self.crop_size is None:
            return 0, 0, sample.height, sample.width
        spare = sample.height - self.crop_size, sample.width - self.crop_size
        if self.training:
            top, left = (int(rng.integers(max(s, 0) + 1)) for s in spare)
            return top, left, self.crop_size, self.crop_size
        return (
            max(spare[0], 0) // 2,
            max(spare[1], 0) // 2,
            min(self.crop_size, sample.height),
            min(self.crop_size, sample.width),
        )


def to_tensor(image: Pixels | NDArray[np.float32]) -> torch.Tensor:
    """Turn (H, W, 3) into (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
