"""Dataset of crops of the images in shards, which each worker reads one after another."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mprnet_lit.data.crops import Crops
from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.data.shard_reader import ShardSample, read_samples
from mprnet_lit.data.shard_sampling import ShardKey
from mprnet_lit.data.shards import ShardList
from mprnet_lit.images.reading import Pixels
from mprnet_lit.utils.errors import UserError

Piece = tuple[int, str, Pixels, Pixels | None]
"""Item before it is cropped: its number in the data set, name, target and degraded image."""


@dataclass(eq=False, repr=False)
class ShardDataset(Crops, Dataset[dict[str, Any]]):
    """Dataset of crops of the images in shards. The other arguments are those of ``Crops``.

    In training, crops are shuffled within a window: consecutive images of a shard with a total size
    of at most ``window``. With one crop per image, the window holds encoded files, otherwise also
    decoded images. A window never crosses the end of a shard, so that reading can start at any
    shard. Sequential access is fast. Random access reads the shard from its start.

    Args:
        listed: shards.
        window: maximum size of the images of a window in bytes.
        on_error: ``raise`` to raise an error for a shard that can't be read, or ``skip`` to replace
            the rest of its items by those of the next shard.
    """

    listed: ShardList
    window: int = field(default=0, kw_only=True)
    on_error: OnError = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        self._next: tuple[int, int, int] | None = None
        """Epoch, shard and place of the next item of ``_pieces``."""
        self._pieces: Iterator[Piece] = iter(())
        self._skipped: set[tuple[int, int]] = set()
        """Epochs and shards that can't be read."""

    def __len__(self) -> int:
        return len(self.listed) * self.crops_per_image

    def count(self, shard: int) -> int:
        """Return the number of items of a shard."""
        return self.listed.shards[shard].samples * self.crops_per_image

    def __getitem__(self, key: ShardKey) -> dict[str, Any]:
        count = len(self.listed.shards)
        for shard in ((key.shard + k) % count for k in range(count)):
            if (key.epoch, shard) in self._skipped:
                continue
            try:
                piece = self._piece(key.epoch, shard, key.place % self.count(shard))
            except UserError as error:
                if self.on_error == "raise":
                    raise
                self._skipped.add((key.epoch, shard))
                print(f"Warning: skipped the rest of a shard: {error}", file=sys.stderr, flush=True)
                continue
            replaced = shard != key.shard and not self.training
            number, name, target, degraded = piece
            item = ItemKey(key.epoch, number, 0.0 if replaced else key.weight)
            return self.item(item, name, target, degraded)
        raise UserError(f"none of the shards in {self.listed.folder} can be read")

    def _piece(self, epoch: int, shard: int, place: int) -> Piece:
        if self._next != (epoch, shard, place):
            self._pieces = self._open(epoch, shard, place)
        self._next = None
        piece = next(self._pieces)
        self._next = epoch, shard, place + 1
        return piece

    def _open(self, epoch: int, shard: int, start: int) -> Iterator[Piece]:
        """Yield the pieces of a shard from a place on. Images before it are not decoded."""
        rng = np.random.default_rng([self.seed, epoch, shard])
        place = 0
        for window in self._windows(shard):
            count = len(window) * self.crops_per_image
            order = rng.permutation(count) if self.training else np.arange(count)
            passed = min(max(start - place, 0), count)
            place += count
            left = np.bincount(order[passed:] % len(window), minlength=len(window))
            images: dict[int, tuple[Pixels, Pixels | None]] = {}
            for k in order[passed:].tolist():
                crop, index = divmod(k, len(window))
                sample = window[index]
                if index not in images:
                    images[index] = sample.decode()
                left[index] -= 1
                target, degraded = images[index] if left[index] else images.pop(index)
                number = sample.number + crop * self.listed.numbered
                yield number, sample.name, target, degraded
            window.clear()  # else it stays in memory while the next window is read

    def _windows(self, shard: int) -> Iterator[list[ShardSample]]:
        record = self.listed.shards[shard]
        window: list[ShardSample] = []
        size = 0
        for sample in read_samples(self.listed.folder, record.file, record.samples):
            more = sample.file_bytes + (sample.decoded_bytes if self.crops_per_image > 1 else 0)
            if window and size + more > self.window:
                yield window
                window, size = [], 0
            window.append(sample)
            size += more
        yield window
