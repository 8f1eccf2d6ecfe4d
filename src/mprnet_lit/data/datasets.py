"""Dataset of crops. Each item is a pure function of the seed and the key of the item."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from torch.utils.data import Dataset, get_worker_info

from mprnet_lit.data.crops import Crops
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.data.shared_cache import SharedCache
from mprnet_lit.data.store import SUFFIX, open_pixels
from mprnet_lit.images.reading import Pixels, read_image
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import return_freed_memory


class ImageCache:
    """Least-recently-used cache of decoded images of at most ``limit`` bytes, for one process."""

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


@dataclass(eq=False, repr=False)
class CropDataset(Crops, Dataset[dict[str, Any]]):
    """Dataset of crops of image files. The other arguments are those of ``Crops``.

    Args:
        samples: image pairs or clean images.
        cache: cache of decoded images, which several datasets may share.
    """

    samples: Sequence[Sample]
    cache: ImageCache | SharedCache = field(default_factory=lambda: ImageCache(0), kw_only=True)

    def __len__(self) -> int:
        return len(self.samples) * self.crops_per_image

    def __getitem__(self, key: ItemKey) -> dict[str, Any]:
        sample = self.samples[key.item % len(self.samples)]
        target = self._read(sample.target, sample)
        degraded = None if sample.degraded is None else self._read(sample.degraded, sample)
        return self.item(key, sample.name, target, degraded)

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


def start_worker(worker: int, **_: Any) -> None:
    """Set up a data worker.

    The worker uses no threads of OpenCV, because the workers run in parallel. Its own memory stays
    small: freed memory is returned, and the garbage collector does not touch (and thus copy) the
    pages of the training process. If that process is killed, the worker deletes the images of a
    shared cache.
    """
    cv2.setNumThreads(0)
    return_freed_memory()
    gc.freeze()
    info = get_worker_info()
    dataset = info.dataset if info else None
    if isinstance(dataset, CropDataset) and isinstance(dataset.cache, SharedCache):
        dataset.cache.scratch.delete_with_parent()
