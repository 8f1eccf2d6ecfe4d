"""LightningDataModule of image pairs: splits, batch sizes and data loaders."""

import secrets
import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

import torch
from lightning import LightningDataModule

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.caches import Cache, CachePlan
from mprnet_lit.data.datasets import CropDataset, start_worker
from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.degrade_on import DegradeOn, check_choice, degrade_batch, on_device
from mprnet_lit.data.pairing import OnError, Sample, digest
from mprnet_lit.data.patterns import Patterns
from mprnet_lit.data.sampling import EpochSampler, LazyLoader
from mprnet_lit.data.shared_cache import node_token
from mprnet_lit.data.shared_memory import Transfer, as_arrays, choose_transfer
from mprnet_lit.data.sources import Source, hold_out
from mprnet_lit.utils.checks import require_function
from mprnet_lit.utils.errors import RefusedError, UserError
from mprnet_lit.utils.hardware import cores

_BATCHES_PER_WORKER = 3
"""Batches in memory per worker: two prefetched and one in use."""
_BYTES_PER_PIXEL = 2 * 3 * 4
"""Bytes per pixel of a batch: two images of three float32 channels."""


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
            number of CPU cores.
        cache_gb: maximum size of the cache of decoded images in GB, which all processes of a
            machine share.
        seed: random seed of the order, the crops, the augmentation and the degradation.
        degrade_on: where training patches are degraded: ``cpu`` in the workers, ``device`` in
            batches on the device of the Trainer, and ``auto`` on the device if it is an accelerator
            and the degradation supports it.
        patterns: patterns that are drawn onto clean training patches before the degradation.

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
        self.train_samples: list[Sample] = []
        self.val_samples: list[Sample] = []
        self._transfer: Transfer | None = None
        self._batch_bytes = 0
        self._caches: tuple[Cache, Cache] | None = None

    def setup(self, stage: str | None = None) -> None:
        """List and check the images. Repeated calls have no effect.

        Raises:
            UserError: there are no training images, a file is faulty, no validation images can be
                held out, or ``patch_size`` is larger than every training image.
        """
        if self.train_samples:
            return
        train, val = (s.samples(self.on_error) for s in (self.train_source, self.val_source))
        if not train:
            raise UserError("there are no training images: set the folder of the source 'train'")
        if not val:
            train, val = hold_out(train, self.holdout)
        if all(min(s.height, s.width) < self.patch_size for s in train):
            largest = max(train, key=lambda s: min(s.height, s.width))
            raise UserError(
                f"patch_size={self.patch_size} is larger than every training image (the largest, "
                f"'{largest.name}', is {largest.width}x{largest.height}): set "
                f"patch_size={max(min(largest.height, largest.width) // 8 * 8, 8)} or smaller"
            )
        self.train_samples, self.val_samples = train, val

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
        own = self.state_dict()
        differ = [key for key in own if state_dict.get(key, own[key]) != own[key]]
        if "training" in differ or "patches" in differ:
            before, now = state_dict.get("images"), own["images"]
            names = f"{now} images with other names or sizes"
            change = f"{before} images in the checkpoint, {now} now" if before != now else names
            raise RefusedError(
                "can't resume: the training images differ from those of the checkpoint "
                f"({change}). Restore the images, or start a new run from the weights of the "
                "checkpoint"
            )
        if "window" in differ:
            raise RefusedError(
                f"can't resume with cache_gb={self.cache_bytes / 1e9:g}, because the order of the "
                "patches depends on cache_gb, and differs from that of version 0.2. Use the value "
                "and the version of the checkpoint, or start a new run from its weights"
            )

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

    def device_batch_size(self) -> int:
        """Return the micro-batch size: the batch size per device and forward pass.

        Raises:
            UserError: ``batch_size`` is not divisible by the number of devices times the number of
                accumulated batches.
        """
        trainer = self.trainer
        parts = trainer.world_size * trainer.accumulate_grad_batches if trainer else 1
        if self.batch_size % parts:
            raise UserError(
                f"batch_size={self.batch_size} is the total per optimizer step and must be a "
                f"multiple of {parts} (number of devices x accumulate_grad_batches of the Trainer)"
            )
        return self.batch_size // parts

    def _loader(self, *, training: bool) -> LazyLoader:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        batch_size = self.device_batch_size() if training else 1
        degradation = self.degradation
        if degradation is not None and not training:
            degradation = degradation.for_validation()
        transfer = self._choose_transfer()
        workers = 0 if transfer is Transfer.NONE else self.workers(world_size)
        caches = self._open_caches(workers)
        dataset = CropDataset(
            self.train_samples if training else self.val_samples,
            self.patch_size if training else self.val_crop_size,
            training=training,
            degradation=degradation,
            patterns=self.patterns,
            augmentation=self.augmentation,
            crops_per_image=self.crops_per_image if training else 1,
            seed=self.seed,
            cache=caches[0 if training else 1],
            degrade_later=training and self.degrades_on_device(),
        )

        def position() -> tuple[int, int]:
            if trainer is None or not training:
                return 0, 0
            done = cast(Any, trainer.fit_loop.epoch_loop.batch_progress.total).processed
            epoch, batches = divmod(done, int(trainer.num_training_batches))
            return epoch, batches * batch_size

        return LazyLoader(
            dataset,
            batch_size=batch_size,
            sampler=EpochSampler(
                len(dataset),
                seed=self.seed,
                shuffle=training,
                rank=rank,
                world_size=world_size,
                images=len(dataset.samples),
                sizes=self._plan.sizes if training else None,
                window=self._plan.window if training else None,
                position=position,
            ),
            num_workers=workers,
            collate_fn=as_arrays if transfer is Transfer.PIPE else None,
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def _choose_transfer(self) -> Transfer:
        """Return the transfer method of the workers; warn once if it is not the default."""
        if self._transfer is None:
            trainer = self.trainer
            devices, processes = (trainer.num_devices, trainer.world_size) if trainer else (1, 1)
            workers = self.workers(processes) * devices
            if not workers:
                return Transfer.NONE
            side = self.val_crop_size or sys.maxsize
            val_pixels = (min(s.height, side) * min(s.width, side) for s in self.val_samples)
            margin = self.degradation.margin if self.degradation else 0
            patch = self.patch_size + 2 * margin * self.degrades_on_device()
            pixels = self.device_batch_size() * patch**2 + max(val_pixels, default=0)
            needed = _BATCHES_PER_WORKER * workers * pixels * _BYTES_PER_PIXEL
            self._transfer, warning = choose_transfer(needed, workers)
            self._batch_bytes = needed if self._transfer is Transfer.SHARED else 0
            if warning and (trainer is None or trainer.is_global_zero):
                print(f"Warning: {warning}", file=sys.stderr, flush=True)
        return self._transfer

    @cached_property
    def _plan(self) -> CachePlan:
        samples = self.train_samples, self.val_samples
        return CachePlan.of(*samples, self.crops_per_image, self.cache_bytes)

    def _open_caches(self, workers: int) -> tuple[Cache, Cache]:
        """Return the caches of training and validation, the same ones in each call."""
        if self._caches is None:
            trainer, token = self.trainer, secrets.token_hex(8)
            if trainer is not None:
                token = trainer.strategy.broadcast(token)
            self._caches = self._plan.open(
                max(workers, 1) * (trainer.num_devices if trainer else 1) + (workers > 0),
                node_token(token),
                2 * self._batch_bytes,
                warn=trainer is None or trainer.is_global_zero,
            )
        return self._caches

    def workers(self, world_size: int) -> int:
        """Return the number of worker processes per device.

        The default is the number of CPU cores per device minus two, at most eight.
        """
        if self.num_workers is not None:
            return self.num_workers
        return max(0, min(8, cores() // world_size - 2))
