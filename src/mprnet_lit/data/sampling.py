"""Batch size per device, resumable distributed sampler, and DataLoader that starts workers late."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler, default_convert

from mprnet_lit.utils.errors import UserError


class ItemKey(NamedTuple):
    """Key of a dataset item. The key and the dataset's seed determine all random numbers."""

    epoch: int
    item: int
    weight: float = 1.0
    """0 for an item that is repeated as padding and excluded from the metrics."""


def micro_batch_size(total: int, trainer: Trainer | None) -> int:
    """Return the batch size per device and forward pass.

    Args:
        total: batch size of an optimizer step, over all devices and accumulated batches.
        trainer: trainer; ``None`` for one device.

    Raises:
        UserError: ``total`` is not divisible by the number of devices times the number of
            accumulated batches.
    """
    parts = trainer.world_size * trainer.accumulate_grad_batches if trainer else 1
    if total % parts:
        raise UserError(
            f"batch_size={total} is the total per optimizer step and must be a multiple of {parts} "
            "(number of devices x accumulate_grad_batches of the Trainer)"
        )
    return total // parts


def progress(trainer: Trainer | None, batch_size: int) -> tuple[int, int]:
    """Return the epoch of a trainer, and the number of items that this process has read in it.

    Args:
        trainer: trainer; ``None`` for the start of the first epoch.
        batch_size: number of items of a batch.
    """
    if trainer is None:
        return 0, 0
    done = cast(Any, trainer.fit_loop.epoch_loop.batch_progress.total).processed
    epoch, batches = divmod(done, int(trainer.num_training_batches))
    return epoch, batches * batch_size


@dataclass(eq=False, repr=False)
class EpochSampler(Sampler[ItemKey]):
    """Distributed sampler that resumes at an exact position.

    Together, the k-th batches of all processes equal the k-th batch that a single process would
    read at the total batch size. All processes get the same number of items: if the length is not a
    multiple of ``world_size``, the first items of the epoch are repeated with weight 0.

    Args:
        length: number of items in the dataset.
        seed: random seed of the order.
        shuffle: whether to shuffle the items, differently in each epoch.
        rank: index of this process.
        world_size: number of processes.
        images: number of images; item ``i`` is a crop of image ``i % images``. ``None`` for one
            item per image.
        sizes: sizes of the images (images,), which ``window`` limits; ``None`` for 1 each.
        window: maximum total size of the images whose crops are shuffled together before the next
            images are read, so that the decoded images fit in memory. A larger image has a window
            of its own. ``None`` to shuffle all items together.
        position: function that returns the epoch and the number of items of this process that a
            resumed run has already read; called at the start of each iteration.
    """

    length: int
    _: KW_ONLY
    seed: int = 0
    shuffle: bool = False
    rank: int = 0
    world_size: int = 1
    images: int | None = None
    sizes: NDArray[np.int64] | None = None
    window: int | None = None
    position: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[ItemKey]:
        epoch, seen = self.position()
        order = self._order(epoch)
        for place in range(self.rank, len(self) * self.world_size, self.world_size)[seen:]:
            weight = 1.0 if place < self.length else 0.0
            yield ItemKey(epoch, int(order[place % self.length]), weight)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the items of the epoch: (length,), a permutation."""
        if not self.shuffle:
            return np.arange(self.length)
        rng = np.random.default_rng([self.seed, epoch])
        if self.window is None:
            return rng.permutation(self.length)
        count = self.images or self.length
        images = rng.permutation(count)
        crops = np.arange(0, self.length, count)
        sizes = np.ones(count, np.int64) if self.sizes is None else self.sizes[images]
        ends = sizes.cumsum()
        windows, first = [], 0
        while first < count:
            before = ends[first] - sizes[first]
            end = int(np.searchsorted(ends, before + self.window, side="right"))
            end = max(end, first + 1)
            windows.append(rng.permutation(np.add.outer(crops, images[first:end]).ravel()))
            first = end
        return np.concatenate(windows)


class LazyLoader(DataLoader[Any]):
    """DataLoader that starts its workers at the first batch and yields tensors.

    Lightning creates the iterator before it restores the position of a resumed run. Workers that
    start at that time would read the wrong items.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            yield default_convert(batch)
