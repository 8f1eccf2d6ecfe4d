"""Distribution of the shards of an epoch over processes and data workers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class ShardKey(NamedTuple):
    """Key of an item: epoch, index of the shard, and position in the shard."""

    epoch: int
    shard: int
    place: int
    weight: float = 1.0
    """0 for an item that is repeated as padding and excluded from the metrics."""


@dataclass(eq=False, repr=False)
class ShardSampler(Sampler[ShardKey]):
    """Distributed sampler that lets each worker read its own shards from start to end.

    The items of the shards, in the order of the epoch, are divided into equal ranges, one per
    process, and each of these into ranges of batches, one per worker. A worker thus reads all items
    of its shards, and a part of the first and of the last one if these cross the end of its range.
    The batches of the workers alternate, as a DataLoader reads them. All processes get the same
    number of items: the first items of the epoch may be repeated with weight 0.

    Args:
        counts: number of items of each shard.
        batch_size: number of items of a batch.
        workers: number of workers per process; 0 counts as one.
        seed: random seed of the order of the shards.
        shuffle: whether to shuffle the shards, differently in each epoch.
        rank: index of this process.
        world_size: number of processes.
        position: function that returns the epoch and the number of items of this process that a
            resumed run has already read, a multiple of ``batch_size``; called at the start of each
            iteration.
    """

    counts: Sequence[int]
    batch_size: int
    workers: int
    _: KW_ONLY
    seed: int = 0
    shuffle: bool = False
    rank: int = 0
    world_size: int = 1
    position: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def __len__(self) -> int:
        return -(-sum(self.counts) // self.world_size)

    def __iter__(self) -> Iterator[ShardKey]:
        epoch, seen = self.position()
        order = np.arange(len(self.counts))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        ends = np.cumsum(np.array(self.counts)[order])
        total, first = int(ends[-1]), self.rank * len(self)
        for batch in self._batches(seen // self.batch_size):
            start = first + batch * self.batch_size
            for place in range(start, min(start + self.batch_size, first + len(self))):
                inside = place % total
                position = int(np.searchsorted(ends, inside, side="right"))
                shard = int(order[position])
                weight = 1.0 if place < total else 0.0
                within = inside - int(ends[position]) + self.counts[shard]
                yield ShardKey(epoch, shard, within, weight)

    def _batches(self, first: int) -> Iterator[int]:
        """Yield the batches of this process in the order in which its workers return them.

        Args:
            first: number of batches to skip.
        """
        count, workers = -(-len(self) // self.batch_size), max(self.workers, 1)
        starts, start = [0] * workers, 0
        # The last range belongs to the worker of the last batch, which may be smaller.
        for worker in ((count + k) % workers for k in range(workers)):
            starts[worker] = start
            start += len(range(worker, count, workers))
        for k in range(first, count):
            yield starts[k % workers] + k // workers
