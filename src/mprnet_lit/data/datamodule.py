"""The LightningDataModule: sources, splits, batch sizes, loaders."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import cv2
from lightning import LightningDataModule

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.datasets import CropDataset
from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.sampling import EpochSampler, LazyLoader
from mprnet_lit.data.shared_memory import Handover, as_arrays, choose
from mprnet_lit.data.sources import Sample, Source
from mprnet_lit.data.store import SUFFIX
from mprnet_lit.images.formats import DEEP_SUFFIXES
from mprnet_lit.utils.checks import require_function
from mprnet_lit.utils.errors import RefusedError, UserError
from mprnet_lit.utils.hardware import cores

_WAITING = 3
"""Batches in memory per worker: two prefetched and one in use."""
_PIXEL = 2 * 3 * 4
"""Bytes per pixel of a batch: two images, three colors, float32."""


class RestorationDataModule(LightningDataModule):
    """Random patches to train on, centre crops to validate on.

    Args:
        train: training images.
        val: validation images; where it has none, some training images are held out.
        degradation: makes the degraded image of a clean-only source.
        augmentation: applied to training patches.
        patch_size: side of the training patches; a multiple of 8.
        val_crop_size: side of the validation crops; ``None`` for whole images.
        batch_size: patches per optimiser step in total, over all devices and accumulated batches.
        crops_per_image: training patches per image and epoch. Where the decoded images don't fit
            ``cache_gb``, the crops of as many images as do are read together, in random order.
        holdout: share of the training images held out where ``val`` has none.
        on_error: ``raise`` on what is unmatched, unreadable or of different sizes, or ``skip`` it.
        num_workers: worker processes per device; ``None`` for what this machine's cores allow.
        cache_gb: bound of the decoded images held in memory, per process, in GB.
        seed: of the order, the crops, the augmentation and the degradation.
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
    ) -> None:
        super().__init__()
        for name, source in (("train", train), ("val", val)):
            require_function(f"{name}.samples", getattr(source, "samples", source))
        if patch_size <= 0 or patch_size % 8:
            raise UserError(f"data.patch_size={patch_size} must be a positive multiple of 8")
        if batch_size <= 0 or crops_per_image <= 0:
            raise UserError("data.batch_size and data.crops_per_image must be at least 1")
        self.train_source = train
        self.val_source = val
        self.degradation = degradation
        self.augmentation = augmentation
        self.patch_size = patch_size
        self.val_crop_size = val_crop_size
        self.batch_size = batch_size
        self.crops_per_image = crops_per_image
        self.holdout = holdout
        self.on_error = on_error
        self.num_workers = num_workers
        self.cache_bytes = int(cache_gb * 1e9)
        self.seed = seed
        self.train_samples: list[Sample] = []
        self.val_samples: list[Sample] = []
        self._handover: Handover | None = None

    def setup(self, stage: str | None = None) -> None:
        """List and check the images, once.

        Raises:
            UserError: something is wrong with the files, or the patch is larger than each of them.
        """
        if self.train_samples:
            return
        train, val = (s.samples(self.on_error) for s in (self.train_source, self.val_source))
        if not train:
            raise UserError("there are no training images: set the folders under data.train")
        if not val:
            train, val = hold_out(train, self.holdout)
        if all(min(s.height, s.width) < self.patch_size for s in train):
            largest = max(train, key=lambda s: min(s.height, s.width))
            raise UserError(
                f"data.patch_size={self.patch_size} is larger than every training image (the "
                f"largest, '{largest.name}', is {largest.width}x{largest.height}): set "
                f"data.patch_size={max(min(largest.height, largest.width) // 8 * 8, 8)} or smaller"
            )
        self.train_samples, self.val_samples = train, val

    def state_dict(self) -> dict[str, Any]:
        """Return the digests of the images, which a resumed training compares with its own."""
        return {
            "images": len(self.train_samples),
            "patches": len(self.train_samples) * self.crops_per_image,
            "training": _digest(self.train_samples),
            "window": self._window(self.train_samples),
            "validation": _digest(self.val_samples, self.val_crop_size),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Compare the training images with those of a checkpoint.

        Raises:
            RefusedError: the images or their order differ, so that the position in the data would
                be wrong.
        """
        own = self.state_dict()
        differ = [key for key in own if state_dict.get(key, own[key]) != own[key]]
        if "training" in differ or "patches" in differ:
            before, now = state_dict.get("images"), own["images"]
            change = f"{before} then, {now} now" if before != now else f"{now}, with other names"
            raise RefusedError(
                "can't resume: the training images are not those of the checkpoint "
                f"({change}). Put them back, or start a new training from its weights with "
                "weights=PATH and no resume"
            )
        if "window" in differ:
            raise RefusedError(
                f"can't resume with data.cache_gb={self.cache_bytes / 1e9:g}: the order of the "
                "patches depends on it. Use the same value, or start a new training from the "
                "checkpoint's weights with weights=PATH and no resume"
            )

    def train_dataloader(self) -> LazyLoader:
        """Return this process's share of the training patches."""
        dataset = CropDataset(
            self.train_samples,
            self.patch_size,
            training=True,
            degradation=self.degradation,
            augmentation=self.augmentation,
            crops_per_image=self.crops_per_image,
            seed=self.seed,
            cache_bytes=self.cache_bytes,
        )
        return self._loader(dataset, self.device_batch_size(), training=True)

    def val_dataloader(self) -> LazyLoader:
        """Return this process's share of the validation images, one at a time."""
        dataset = CropDataset(
            self.val_samples,
            self.val_crop_size,
            training=False,
            degradation=self.degradation,
            seed=self.seed,
            cache_bytes=self.cache_bytes,
        )
        return self._loader(dataset, 1, training=False)

    def device_batch_size(self) -> int:
        """Return the batch size of one device: the total, shared out.

        Raises:
            UserError: the total can't be shared out evenly.
        """
        trainer = self.trainer
        shares = trainer.world_size * trainer.accumulate_grad_batches if trainer else 1
        if self.batch_size % shares:
            raise UserError(
                f"data.batch_size={self.batch_size} is the total per optimiser step and can't be "
                f"shared by {shares} (devices x trainer.accumulate_grad_batches): set it to a "
                f"multiple of {shares}"
            )
        return self.batch_size // shares

    def _loader(self, dataset: CropDataset, batch_size: int, *, training: bool) -> LazyLoader:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

        def position() -> tuple[int, int]:
            if trainer is None or not training:
                return 0, 0
            done = cast(Any, trainer.fit_loop.epoch_loop.batch_progress.total).processed
            epoch, batches = divmod(done, int(trainer.num_training_batches))
            return epoch, batches * batch_size

        workers = self.workers(world_size)
        handover = self._how_handed_over(workers) if workers else Handover.NONE
        if handover is Handover.NONE:
            workers = 0
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
                window=self._window(dataset.samples) if training else None,
                position=position,
            ),
            num_workers=workers,
            collate_fn=as_arrays if handover is Handover.PIPE else None,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )

    def _how_handed_over(self, workers: int) -> Handover:
        """Return how workers pass batches; print a warning once if not through shared memory."""
        if self._handover is None:
            trainer = self.trainer
            devices = trainer.num_devices if trainer else 1
            choice = choose(self._bytes_waiting(workers) * devices, workers * devices)
            self._handover = choice.way
            if choice.reason and (trainer is None or trainer.is_global_zero):
                print(f"Warning: {choice.reason}", file=sys.stderr, flush=True)
        return self._handover

    def _bytes_waiting(self, workers: int) -> int:
        """Return the bytes of a device's batches in memory, in training and validation."""
        sides = [(s.height, s.width) for s in self.val_samples]
        if self.val_crop_size is not None:
            sides = [(min(h, self.val_crop_size), min(w, self.val_crop_size)) for h, w in sides]
        pixels = self.device_batch_size() * self.patch_size**2
        pixels += max((height * width for height, width in sides), default=0)
        return _WAITING * workers * pixels * _PIXEL

    def _window(self, samples: Sequence[Sample]) -> int | None:
        """Return how many decoded images the cache holds; ``None`` where that doesn't matter."""

        def size(sample: Sample) -> int:
            files = [path for path in (sample.target, sample.degraded) if path is not None]
            depth = sum(2 if path.suffix.lower() in DEEP_SUFFIXES else 1 for path in files)
            return sample.height * sample.width * 3 * depth

        sizes = [size(sample) for sample in samples if sample.target.suffix != SUFFIX]
        if self.crops_per_image == 1 or sum(sizes) <= self.cache_bytes:
            return None
        return max(1, int(self.cache_bytes / max(sizes)))

    def workers(self, world_size: int) -> int:
        """Return the worker processes of a device.

        They leave the cores that computing on a CPU wants; a GPU's process wants up to eight.
        """
        if self.num_workers is not None:
            return self.num_workers
        return max(0, min(8, cores() // world_size - 2))


def hold_out(samples: list[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """Split off a share of the samples, spread evenly: returns the rest and the held-out.

    Raises:
        UserError: there is only one sample, or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UserError(f"data.holdout={share} must lie between 0 and 1")
    if len(samples) < 2:
        raise UserError(
            "one image can't serve for training and validation both: add images, or set the "
            "folders under data.val"
        )
    count = min(len(samples) - 1, max(1, round(share * len(samples))))
    held = {int((i + 0.5) * len(samples) / count) for i in range(count)}
    return (
        [s for i, s in enumerate(samples) if i not in held],
        [s for i, s in enumerate(samples) if i in held],
    )


def _digest(samples: Sequence[Sample], *options: Any) -> str:
    """Return a digest of the names and sizes of images, in their order."""
    lines = [f"{s.name!r} {s.width} {s.height}" for s in samples]
    return hashlib.sha256("\n".join([*lines, repr(options)]).encode()).hexdigest()


def _start_worker(worker: int, **_: Any) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
