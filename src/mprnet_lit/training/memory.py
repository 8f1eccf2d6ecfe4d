"""Training batches that don't fit the memory: told from other errors, and shared out further."""

import gc
from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from mprnet_lit.data import RestorationDataModule
from mprnet_lit.runs.files import flatten
from mprnet_lit.training.checkpoints import matching
from mprnet_lit.utils.errors import UserError

_ADVICE = "module.gradient_checkpointing=true or a smaller data.patch_size"


class MemoryTooSmallError(UserError):
    """A training step that memory was too small for.

    Args:
        message: for the user.
        batch: patches at once of a device, where a smaller number may help.
    """

    def __init__(self, message: str, batch: int | None = None) -> None:
        super().__init__(message)
        self.batch = batch


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device, or the system, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        ("DefaultCPUAllocator" in text and "allocate memory" in text)
        or "CUDA error: out of memory" in text
    )


def explained(
    error: BaseException, trainer: Trainer, data: RestorationDataModule, training: bool
) -> MemoryTooSmallError:
    """Return what to tell the user.

    Args:
        error: that there was no memory.
        trainer: whose it was.
        data: what it trained on.
        training: whether it was in a training step, and not in validation.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if not training:
        return MemoryTooSmallError(
            f"the memory is too small for the validation ({reason}): set a smaller "
            "data.val_crop_size"
        )
    batch = data.device_batch_size()
    said = f"the memory is too small for {batch} patches at once ({reason}): set"
    if batch == 1:
        return MemoryTooSmallError(f"{said} {_ADVICE}")
    if trainer.world_size > 1:
        more = trainer.accumulate_grad_batches * _smallest_factor(batch)
        return MemoryTooSmallError(
            f"{said} trainer.accumulate_grad_batches={more} (the total batch stays the same; "
            f"trainer.auto_batch does so only where one process trains), {_ADVICE}"
        )
    return MemoryTooSmallError(f"{said} trainer.auto_batch=true, {_ADVICE}", batch)


def shared_further(config: DictConfig, error: MemoryTooSmallError) -> DictConfig:
    """Return the configuration with half the patches at once, and twice as many batches a step.

    A batch that can't be halved is divided by its smallest factor.

    Raises:
        MemoryTooSmallError: it is not to be, or of no use.
    """
    if not config.trainer.auto_batch or error.batch is None:
        raise error
    factor = _smallest_factor(error.batch)
    print(
        f"Out of memory with {error.batch} patches at once: going on with "
        f"{error.batch // factor}, and {factor} times as many accumulated batches "
        f"(trainer.accumulate_grad_batches={config.trainer.accumulate_grad_batches * factor})",
        flush=True,
    )
    return accumulating(config, config.trainer.accumulate_grad_batches * factor)


def accumulating(config: DictConfig, batches: int) -> DictConfig:
    """Return the configuration with so many batches a step, and steps and epochs as they were."""
    changed = config.copy()
    factor = batches // config.trainer.accumulate_grad_batches
    changed.trainer.accumulate_grad_batches = batches
    if isinstance(config.trainer.limit_train_batches, int):
        changed.trainer.limit_train_batches *= factor
    return changed


def as_before(config: DictConfig, trained: Mapping[str, Any]) -> DictConfig:
    """Return the configuration, accumulating no fewer batches than the run that is gone on with.

    Args:
        config: asked for.
        trained: what the checkpoint's training was configured with.
    """
    found = flatten(dict(trained)).get("trainer.accumulate_grad_batches", 1)
    own = config.trainer.accumulate_grad_batches
    more = type(found) is int and 0 < own < found and found % own == 0
    return accumulating(config, found) if more else config


def release() -> None:
    """Give back what the failed training held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _smallest_factor(number: int) -> int:
    return next(n for n in range(2, number + 1) if number % n == 0)


class Batches(Callback):
    """Has a training go on where it was though it accumulates another number of batches.

    Lightning counts batches, and a checkpoint's may be larger than those of now.
    """

    def __init__(self) -> None:
        self.training = False
        self._counts: dict[str, int] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how an epoch is divided."""
        self._counts = {
            "accumulated": trainer.accumulate_grad_batches,
            "of_an_epoch": int(trainer.num_training_batches),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return how an epoch is divided, for the checkpoint."""
        return self._counts

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Convert the checkpoint's counts to batches of the present size.

        Raises:
            UserError: an epoch has another number of batches than at the checkpoint.
            ValueError: the recorded counts are impossible.
        """
        before = checkpoint["callbacks"].get(self.state_key)
        if not before:
            return
        before = matching({"accumulated": 1, "of_an_epoch": 1}, before)
        if 0 in before.values():
            raise ValueError("an epoch without batches")
        now = trainer.accumulate_grad_batches
        data: RestorationDataModule = trainer.datamodule  # type: ignore[attr-defined]
        epoch = batches_of_an_epoch(trainer, data)
        if before["accumulated"] == now:
            if before["of_an_epoch"] != epoch:
                raise UserError(
                    f"can't resume: an epoch had {before['of_an_epoch']} batches at the "
                    f"checkpoint, and has {epoch} now. Use the same training images, "
                    "data.batch_size and trainer.limit_train_batches, or start a new training from "
                    "its weights with weights=PATH and no resume"
                )
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done, here = progress["total"]["processed"], progress["current"]["processed"]
        whole = here == before["of_an_epoch"]
        ours = epoch if whole else here // before["accumulated"] * now
        epochs = (done - here) // before["of_an_epoch"]
        for counts, change in (
            (progress["total"], epochs * epoch + ours - done),
            (progress["current"], ours - here),
        ):
            for name in counts:
                counts[name] += change

    def on_exception(self, trainer: Trainer, *_: Any) -> None:
        """Note whether it was a training step's."""
        self.training = trainer.training


def batches_of_an_epoch(trainer: Trainer, data: RestorationDataModule) -> int:
    """Return how many batches a device trains on in an epoch."""
    batches = len(data.train_dataloader())
    limit: int | float = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
