"""LightningDataModule of image pairs: splits, batch sizes and data loaders."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import Dataset, Sampler

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.caches import Cache, CachePlan
from mprnet_lit.data.datasets import CropDataset, start_worker
from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.degrade_on import DegradeOn, check_choice, degrade_batch, on_device
from mprnet_lit.data.manifest import Check
from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.patterns import Patterns
from mprnet_lit.data.samples import Sample, SampleList, digest
from mprnet_lit.data.sampling import EpochSampler, LazyLoader, micro_batch_size, progress
from mprnet_lit.data.shared_memory import Transfer, as_arrays, batches_bytes, choose_transfer
from mprnet_lit.data.sources import Source
from mprnet_lit.data.splits import check_unchanged, list_samples
from mprnet_lit.utils.checks import require_function
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import core_share


class RestorationDataModule(LightningDataModule):
    """Random patches for training and center crops for validation.

    A batch is a dictionary with the float32 tensors ``degraded`` (B, 3, H, W), ``target``
    (B, 3, H, W) and ``weight`` (B,), and with ``name``, a list of B strings. Images are in [0, 1];
    additive noise may exceed this range.

    Args:
        train: source of the training images.
        val: source of the validation images. If ``val`` has no images, a fraction of the training
            images is held out for validation.
        degradation: degradation that is applied to images without a degraded version. Validation
            does not draw its choices ``Nothing``.
        augmentation: data augmentation of the training patches.
        patch_size: side of the training patches in pixels, a multiple of 8.
        val_crop_size: side of the validation crops in pixels; ``None`` for whole images.
        batch_size: total number of patches per optimizer step, over all devices and accumulated
            batches.
        crops_per_image: number of training patches per image and epoch. If the decoded images do
            not fit in ``cache_gb``, patches are only shuffled within groups of images, of which two
            fit.
        holdout: fraction of the training images that is held out for validation if ``val`` has no
            images, in (0, 1).
        on_error: ``raise`` to report all faulty files in one error, or ``skip`` to skip faulty
            files with a warning. A file is faulty if it is unreadable or ambiguous, has no
            partner, or differs in size from its partner.
        num_workers: number of worker processes per device; ``None`` for a default based on the
            number of CPU cores of this machine and the number of training processes on it.
        cache_gb: maximum size of the cache of decoded images in GB, which all processes of a
            machine share.
        seed: random seed of the order, the crops, the augmentation and the degradation.
        degrade_on: where training patches are degraded: ``cpu`` in the workers, ``device`` in
            batches on the device of the Trainer, and ``auto`` on the device if it is an accelerator
            and the degradation supports it.
        patterns: patterns that are drawn onto clean training patches before the degradation.
        verify: whether to read every image of a folder as a whole before training starts, instead
            of the headers of the images that are new or changed since the last start.

    Raises:
        UserError: ``train`` or ``val`` has no method ``samples``, ``patch_size``, ``batch_size`` or
            ``crops_per_image`` is out of range, ``degrade_on`` is unknown, or the degradation does
            not support it.
    """

    def __init__(
        self,
        train: Source,
        val: Source,
        degradation: Degradation | None = None,
        augmentation: PairedAugmentation | None = None,
        patch_size: int = 256,
        val_crop_size: int | None = 256,
        batch_size: int = 16,
        crops_per_image: int = 1,
        holdout: float = 0.1,
        on_error: OnError = "raise",
        num_workers: int | None = None,
        cache_gb: float = 1.0,
        seed: int = 0,
        degrade_on: DegradeOn = "auto",
        patterns: Patterns | None = None,
        verify: bool = False,
    ) -> None:
        super().__init__()
        for name, source in (("train", train), ("val", val)):
            require_function(f"{name}.samples", getattr(source, "samples", source))
        if patch_size <= 0 or patch_size % 8:
            raise UserError(f"patch_size={patch_size} must be a positive multiple of 8")
        for name, count in (("batch_size", batch_size), ("crops_per_image", crops_per_image)):
            if count <= 0:
                raise UserError(f"{name}={count} must be at least 1")
        check_choice(degrade_on, degradation)
        self.train_source = train
        self.val_source = val
        self.degradation = degradation
        self.augmentation = augmentation
        self.patterns = patterns
        self.patch_size = patch_size
        self.val_crop_size = val_crop_size
        self.batch_size = batch_size
        self.crops_per_image = crops_per_image
        self.holdout = holdout
        self.on_error = on_error
        self.num_workers = num_workers
        self.cache_bytes = int(cache_gb * 1e9)
        self.seed = seed
        self.degrade_on = degrade_on
        self.verify = verify
        self.train_samples: Sequence[Sample] = SampleList()
        self.val_samples: Sequence[Sample] = SampleList()
        self._transfer: Transfer | None = None
        self._batch_bytes = 0
        self._caches: tuple[Cache, Cache] | None = None
        self._error: UserError | None = None

    def prepare_data(self) -> None:
        """List and check the images in one process of each machine, while the others wait.

        ``setup`` raises an error that occurs here.
        """
        self._error = None
        try:
            self._list("full" if self.verify else "headers")
        except UserError as error:
            self._error = error

    def setup(self, stage: str | None = None) -> None:
        """List and check the images. Repeated calls have no effect.

        In a distributed training, a process uses the manifests that ``prepare_data`` wrote if they
        give the list of images of the first process.

        Raises:
            UserError: there are no training images, a file is faulty, no validation images can be
                held out, or ``patch_size`` is larger than every training image.
        """
        digest = self._digest()
        if self.trainer is not None and self.trainer.world_size > 1:
            digest = self.trainer.strategy.broadcast(digest)
        if self._error is not None:
            raise self._error
        if not self.train_samples and digest is not None:
            with suppress(UserError):
                self._list("known")
            if self._digest() != digest:
                self.train_samples, self.val_samples = SampleList(), SampleList()
        self._list("full" if self.verify else "headers")

    def _digest(self) -> tuple[str, str] | None:
        """Return digests of the images; ``None`` before they are listed."""
        if not self.train_samples:
            return None
        return digest(self.train_samples), digest(self.val_samples)

    def _list(self, check: Check) -> None:
        if not self.train_samples:
            self.train_samples, self.val_samples = list_samples(
                self.train_source,
                self.val_source,
                holdout=self.holdout,
                patch_size=self.patch_size,
                on_error=self.on_error,
                check=check,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return counts and digests with which a resumed run detects a changed data set."""
        return {
            "images": len(self.train_samples),
            "patches": len(self.train_samples) * self.crops_per_image,
            "training": digest(self.train_samples),
            "window": self._plan.window,
            "validation": digest(self.val_samples, self.val_crop_size),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compare the training images with those of a checkpoint.

        Raises:
            RefusedError: the training images or their order differ from those of the checkpoint,
                so that the position in the epoch would be wrong.
        """
        check_unchanged(state_dict, self.state_dict(), self.cache_bytes / 1e9)

    def train_dataloader(self) -> LazyLoader:
        """Return the loader of the training patches of this process."""
        return self._loader(training=True)

    def val_dataloader(self) -> LazyLoader:
        """Return the loader of the validation images of this process, with batches of one image."""
        return self._loader(training=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Degrade the training patches, unless a worker has already degraded them."""
        if self.degradation is None or "draws" not in batch:
            return batch
        return degrade_batch(batch, self.degradation)

    def degrades_on_device(self) -> bool:
        """Return whether training patches are degraded on the device of the Trainer."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return on_device(self.degrade_on, self.degradation, self.train_samples, device)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of training and of validation images."""
        return len(self.train_samples), len(self.val_samples)

    def device_batch_size(self) -> int:
        """Return the micro-batch size: the batch size per device and forward pass."""
        return micro_batch_size(self.batch_size, self.trainer)

    def _loader(self, *, training: bool) -> LazyLoader:
        trainer = self.trainer
        degradation = self.degradation
        if degradation is not None and not training:
            degradation = degradation.for_validation()
        batch_size = self.device_batch_size() if training else 1
        transfer = self._choose_transfer()
        workers = self.readers(training)
        crops = {
            "crop_size": self.patch_size if training else self.val_crop_size,
            "training": training,
            "degradation": degradation,
            "patterns": self.patterns,
            "augmentation": self.augmentation,
            "crops_per_image": self.crops_per_image if training else 1,
            "seed": self.seed,
            "degrade_later": training and self.degrades_on_device(),
        }
        order = {
            "seed": self.seed,
            "shuffle": training,
            "rank": trainer.global_rank if trainer else 0,
            "world_size": trainer.world_size if trainer else 1,
            "position": partial(progress, trainer if training else None, batch_size),
        }
        dataset, sampler = self._read(crops, order, batch_size, workers)
        return LazyLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=as_arrays if transfer is Transfer.PIPE else None,
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def readers(self, training: bool) -> int:
        """Return the number of workers of a loader per device; 0 if none can be started."""
        return 0 if self._choose_transfer() is Transfer.NONE else self.workers()[0]

    def _read(
        self, crops: dict[str, Any], order: dict[str, Any], batch_size: int, workers: int
    ) -> tuple[Dataset[dict[str, Any]], Sampler[Any]]:
        """Return a dataset with the arguments ``crops``, and a sampler with those in ``order``."""
        if self._caches is None:
            self._caches = self._plan.open(self.trainer, workers, self._batch_bytes)
        if not crops["training"]:
            dataset = CropDataset(self.val_samples, cache=self._caches[1], **crops)
            return dataset, EpochSampler(len(dataset), **order)
        dataset = CropDataset(self.train_samples, cache=self._caches[0], **crops)
        images, sizes, window = len(self.train_samples), self._plan.sizes, self._plan.window
        sampler = EpochSampler(len(dataset), images=images, sizes=sizes, window=window, **order)
        return dataset, sampler

    def _choose_transfer(self) -> Transfer:
        """Return the transfer method of the workers; warn once if it is not the default."""
        if self._transfer is None:
            trainer = self.trainer
            workers = self.workers()[0] * (trainer.num_devices if trainer else 1)
            if not workers:
                return Transfer.NONE
            margin = self.degradation.margin if self.degradation else 0
            patch = self.patch_size + 2 * margin * self.degrades_on_device()
            pixels = self.device_batch_size() * patch**2 + self._largest_val_crop()
            needed = batches_bytes(workers, pixels)
            self._transfer, warning = choose_transfer(needed, workers)
            self._batch_bytes = needed if self._transfer is Transfer.SHARED else 0
            if warning and (trainer is None or trainer.is_global_zero):
                print(f"Warning: {warning}", file=sys.stderr, flush=True)
        return self._transfer

    def _largest_val_crop(self) -> int:
        """Return the number of pixels of the largest validation crop."""
        sizes = SampleList.of(self.val_samples).sizes.astype(np.int64)
        return int(np.minimum(sizes, self.val_crop_size or sys.maxsize).prod(axis=1).max(initial=0))

    @cached_property
    def _plan(self) -> CachePlan:
        samples = self.train_samples, self.val_samples
        return CachePlan.of(*samples, self.crops_per_image, self.cache_bytes)

    def workers(self) -> tuple[int, str]:
        """Return the number of worker processes per device, and the reason.

        The default is the number of CPU cores per training process minus two, at most eight.
        Processes on other machines do not count.
        """
        if self.num_workers is not None:
            return self.num_workers, "data.num_workers"
        share, reason = core_share(self.trainer.num_devices if self.trainer else 1)
        return max(0, min(8, share - 2)), reason
