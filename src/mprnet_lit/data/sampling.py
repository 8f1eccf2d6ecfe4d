"""Which items a process reads, in which order: a pure function of the seed and the position."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from mprnet_lit.data.shared_memory import as_tensors


class ItemKey(NamedTuple):
    """What a dataset is asked for: all that its random draws depend on, beside its seed."""

    epoch: int
    item: int
    weight: float = 1.0
    """0 for an item that only evens out the processes' shares and must not count."""


class EpochSampler(Sampler[ItemKey]):
    """One process's share of an epoch.

    The epoch's order is cut into shares such that the processes' k-th batches together are the
    k-th batch that one process alone would read at the total batch size. Shares of one length are
    had by repeating the first items, with weight 0.

    Args:
        length: items in the data set.
        seed: of the order.
        shuffle: read in random order, another in each epoch.
        rank: this process.
        world_size: number of processes.
        images: the items are crops of so many images, item ``i`` of image ``i % images``.
        window: shuffle the crops of so many images among themselves before going on to others, so
            that the decoded images fit into memory; ``None``: shuffle all items.
        position: called when an iteration starts; returns the epoch and the number of items of
            this process's share that a resumed run has already seen.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world_size: int = 1,
        images: int | None = None,
        window: int | None = None,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.images = images or length
        self.window = window
        self.position = position

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[ItemKey]:
        epoch, seen = self.position()
        order = self._order(epoch)
        for place in range(self.rank, len(self) * self.world_size, self.world_size)[seen:]:
            weight = 1.0 if place < self.length else 0.0
            yield ItemKey(epoch, int(order[place % self.length]), weight)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's items, each once."""
        if not self.shuffle:
            return np.arange(self.length)
        rng = np.random.default_rng([self.seed, epoch])
        if self.window is None:
            return rng.permutation(self.length)
        images = rng.permutation(self.images)
        crops = np.arange(0, self.length, self.images)
        windows = (
            rng.permutation(np.add.outer(crops, images[first : first + self.window]).ravel())
            for first in range(0, self.images, self.window)
        )
        return np.concatenate(list(windows))


class LazyLoader(DataLoader[Any]):
    """A DataLoader that starts when its first batch is asked for, and yields tensors.

    Lightning makes the iterator before it restores the position of a resumed run; workers that
    started then would read the wrong items.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            yield as_tensors(batch)
