"""Dataset of crops. Each item is a pure function of the seed and the key of the item."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_convert

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.patterns import Patterns
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.data.store import SUFFIX, open_pixels
from mprnet_lit.images.reading import Pixels, read_image, to_float
from mprnet_lit.utils.errors import UserError


class ImageCache:
    """Least-recently-used cache of decoded images of at most ``limit`` bytes in total."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._images: dict[Path, Pixels] = {}
        """Cached images, least recently used first."""

    def read(self, path: Path) -> Pixels:
        """Return an image (H, W, 3) from the cache or the file; memory-map a stored image."""
        if path.suffix == SUFFIX:
            return open_pixels(path)
        if path in self._images:
            self._images[path] = self._images.pop(path)
            return self._images[path]
        image = read_image(path)
        if image.nbytes <= self.limit:
            self._images[path] = image
            self.held += image.nbytes
            while self.held > self.limit:
                self.held -= self._images.pop(next(iter(self._images))).nbytes
        return image


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


@dataclass(eq=False, repr=False)
class CropDataset(Dataset[dict[str, Any]]):
    """Dataset of crops of image pairs, or of clean images that are degraded on the fly.

    An item is a dictionary with the float32 tensors ``degraded`` (3, h, w), ``target`` (3, h, w)
    and ``weight`` (a scalar), and with the string ``name``. Images are in [0, 1]; additive noise
    may exceed this range. The seed and the key of the item determine all random numbers, so that an
    item is the same in any worker, on any device and in a resumed run.

    Args:
        samples: image pairs or clean images.
        crop_size: side of the square crops in pixels; ``None`` for whole images. Smaller images
            are padded by reflection in training, and not padded in validation.
        training: ``True`` for random crops with augmentation that differ in each epoch; ``False``
            for center crops with the same degradation in each epoch.
        degradation: degradation that is applied to samples without a degraded image.
        patterns: patterns that are drawn onto these samples in training, before the degradation.
        augmentation: data augmentation in training.
        crops_per_image: number of items per image and epoch.
        seed: random seed.
        cache_bytes: maximum size of the cache of decoded images in bytes, per process.
        degrade_later: whether a clean item has ``draws`` instead of ``degraded``, and a ``target``
            with the margin of the degradation, to be degraded in a batch.
    """

    samples: Sequence[Sample]
    crop_size: int | None
    _: KW_ONLY
    training: bool
    degradation: Degradation | None = None
    patterns: Patterns | None = None
    augmentation: PairedAugmentation | None = None
    crops_per_image: int = 1
    seed: int = 0
    cache_bytes: int = 0
    degrade_later: bool = False

    def __post_init__(self) -> None:
        self.cache = ImageCache(self.cache_bytes)

    def __len__(self) -> int:
        return len(self.samples) * self.crops_per_image

    def __getitem__(self, key: ItemKey) -> dict[str, Any]:
        sample = self.samples[key.item % len(self.samples)]
        epoch = key.epoch if self.training else 0
        rng = np.random.default_rng([self.seed, self.training, epoch, key.item])
        top, left, height, width = self._crop_box(sample, rng)

        degrade = self.degradation if sample.degraded is None else None
        margin = degrade.margin if degrade else 0
        box = (top - margin, left - margin, height + 2 * margin, width + 2 * margin)
        target = to_float(crop(self._read(sample.target, sample), *box))
        degraded = None
        if sample.degraded is not None:
            degraded = to_float(crop(self._read(sample.degraded, sample), *box))
        if self.training and self.augmentation is not None:
            target, degraded = self.augmentation(target, degraded, rng)
        if self.training and self.patterns is not None and sample.degraded is None:
            target = self.patterns(target, rng)
        item = {"name": sample.name, "weight": torch.tensor(key.weight)}
        if degrade is not None and self.degrade_later:
            draws = default_convert(degrade.draw(target.shape[:2], rng))
            return {"target": to_tensor(target), "draws": draws, **item}
        if degrade is not None:
            degraded = degrade(target, rng)
        assert degraded is not None
        inner = slice(margin, margin + height), slice(margin, margin + width)
        return {
            "degraded": to_tensor(degraded[inner]),
            "target": to_tensor(target[inner]),
            **item,
        }

    def _read(self, path: Path, sample: Sample) -> Pixels:
        try:
            image = self.cache.read(path)
        except UserError as error:
            if path.exists() or path.suffix == SUFFIX:  # store errors state a remedy
                raise
            raise UserError(
                f"{path} was deleted while it was in use: restore the file and resume, or start "
                "again without it"
            ) from error
        height, width = image.shape[:2]
        if (height, width) != (sample.height, sample.width):
            raise UserError(
                f"{path} has changed from {sample.width}x{sample.height} to {width}x{height} while "
                "it was in use: don't change images during a run, and start again"
            )
        return image

    def _crop_box(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return the top, left, height and width of the crop of an item."""
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
    """Convert an array (H, W, 3) to a tensor (3, H, W) of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
