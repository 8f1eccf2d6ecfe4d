"""LightningDataModule of shards."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from mprnet_lit.data.datamodule import RestorationDataModule
from mprnet_lit.data.degrade_on import on_device
from mprnet_lit.data.sampling import LazyLoader
from mprnet_lit.data.shard_dataset import ShardDataset
from mprnet_lit.data.shard_sampling import ShardSampler
from mprnet_lit.data.shards import ShardList, Shards
from mprnet_lit.data.splits import check_unchanged
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError

_OTHER_ORDER = (
    "Warning: the number of devices, the number of data workers or data.cache_gb differs from that "
    "of the checkpoint. The shards are therefore read in another order, and in an interrupted "
    "epoch some patches are repeated and others skipped"
)


class ShardDataModule(RestorationDataModule):
    """Random patches and center crops of the images in shards, at a local path or a URL.

    The batches are those of :class:`RestorationDataModule`, with a different order of the patches.
    The arguments are the same too, with these differences:

    - ``train`` and ``val`` are splits of shards.
    - ``holdout`` has no effect, because ``mode=prepare`` has held out the validation images.
    - ``on_error`` applies to missing and damaged shards: ``raise`` stops with an error, ``skip``
      skips them with a warning.
    - ``num_workers``: at most one worker per shard is used.
    - ``cache_gb`` is the memory for the images whose patches are shuffled together, for all
      processes of a machine.
    - ``verify`` compares the checksums of all shards before training starts.

    Raises:
        UserError: ``train`` or ``val`` is not of the class ``Shards``, or another argument is
            wrong.
    """

    def __init__(self, train: Shards, val: Shards, *args: Any, **kwargs: Any) -> None:
        for name, source in (("train", train), ("val", val)):
            require(name, source, Shards, "a split of shards")
        super().__init__(train, val, *args, **kwargs)
        self._lists: tuple[ShardList, ShardList] | None = None
        self._order_before: list[int] | None = None

    def prepare_data(self) -> None:
        """List the shards in the first process, while the others wait without a time limit.

        ``setup`` raises an error that occurs here.
        """
        if self._lists is None and (self.trainer is None or self.trainer.is_global_zero):
            self._error = None
            try:
                self._lists = self._listed()
            except UserError as error:
                self._error = error

    def setup(self, stage: str | None = None) -> None:
        """Send the list of the shards to all processes. Repeated calls have no effect.

        Raises:
            UserError: a shard is missing or damaged, or ``patch_size`` is larger than every
                training image.
        """
        if self._error is None:
            self.prepare_data()  # for a caller without a Trainer
        found, self._error = self._lists or self._error, None
        if self.trainer is not None and self.trainer.world_size > 1:
            found = self.trainer.strategy.broadcast(found)
        if isinstance(found, UserError):
            raise found
        self._lists = found

    def _listed(self) -> tuple[ShardList, ShardList]:
        sources = (self.train_source, self.val_source)
        training, validation = (
            source.shards(self.on_error, verify=self.verify)
            for source in sources
            if isinstance(source, Shards)
        )
        side = max(shard.side for shard in training.shards)
        if side < self.patch_size:
            raise UserError(
                f"patch_size={self.patch_size} is larger than every training image (the largest "
                f"has a shorter side of {side}): set patch_size={max(side // 8 * 8, 8)} or smaller"
            )
        return training, validation

    @property
    def lists(self) -> tuple[ShardList, ShardList]:
        """Shards of training and of validation; available after ``setup``."""
        assert self._lists is not None, "call setup() first"
        return self._lists

    def state_dict(self) -> dict[str, Any]:
        """Return counts and digests with which a resumed run detects changed shards."""
        return self._content() | {"order": self._order}

    def _content(self) -> dict[str, Any]:
        training, validation = self.lists
        return {
            "images": len(training),
            "patches": len(training) * self.crops_per_image,
            "training": training.digest(),
            "validation": validation.digest(self.val_crop_size),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compare the shards with those of a checkpoint.

        Raises:
            RefusedError: the shards differ from those of the checkpoint.
        """
        check_unchanged(state_dict, self._content(), self.cache_bytes / 1e9)
        self._order_before = state_dict.get("order")

    def counts(self) -> tuple[int, int]:
        """Return the numbers of training and of validation images."""
        training, validation = self.lists
        return len(training), len(validation)

    def degrades_on_device(self) -> bool:
        """Return whether training patches are degraded on the device of the Trainer."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        is_possible = on_device(self.degrade_on, self.degradation, (), device)
        return is_possible and not self.lists[0].has_pairs

    def train_dataloader(self) -> LazyLoader:
        """Return the loader of the training patches of this process.

        If a resumed run reads the shards in another order, a warning is printed.
        """
        if self.trainer is None or self.trainer.is_global_zero:
            if self._order_before not in (None, self._order):
                print(_OTHER_ORDER, file=sys.stderr, flush=True)
            self._order_before = None
            asked, used = self.workers()[0], self.readers(training=True)
            if 0 < used < asked:
                print(
                    f"Warning: {used} of {asked} data workers per device are used, because there "
                    f"are {len(self.lists[0].shards)} training shards: prepare them with a smaller "
                    "prepare.shard_mb",
                    file=sys.stderr,
                    flush=True,
                )
        return super().train_dataloader()

    @property
    def _order(self) -> list[int]:
        """Values on which the order of the patches depends, beside the seed and the shards."""
        world_size = self.trainer.world_size if self.trainer else 1
        return [world_size, max(self.readers(training=True), 1), self._window]

    @property
    def _window(self) -> int:
        devices = self.trainer.num_devices if self.trainer else 1
        return self.cache_bytes // (max(self.readers(training=True), 1) * devices)

    def readers(self, training: bool) -> int:
        """Return the number of workers of a loader per device, at most one per shard."""
        shards = len(self.lists[0 if training else 1].shards)
        devices = self.trainer.world_size if self.trainer else 1
        return min(super().readers(training), max(shards // devices, 1))

    def _largest_val_crop(self) -> int:
        largest = max(shard.pixels for shard in self.lists[1].shards)
        return min(largest, self.val_crop_size**2) if self.val_crop_size else largest

    def _read(
        self, crops: dict[str, Any], order: dict[str, Any], batch_size: int, workers: int
    ) -> tuple[Dataset[dict[str, Any]], Sampler[Any]]:
        training = crops["training"]
        dataset = ShardDataset(
            listed=self.lists[0 if training else 1],
            window=self._window if training else 0,
            on_error=self.on_error,
            **crops,
        )
        counts = [dataset.count(shard) for shard in range(len(dataset.listed.shards))]
        return dataset, ShardSampler(counts, batch_size, workers, **order)
