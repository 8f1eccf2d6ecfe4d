"""Steps whose loss or gradients are not finite: left out, reported, and after many the end."""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim import Optimizer

from mprnet_lit.utils.compat import skip_next_average, unscales_by_itself
from mprnet_lit.utils.errors import UserError

SKIPPED = "train/skipped_steps"
_NAMED = 8
"""Images that a message names."""


class BadSteps(Callback):
    """Leaves out the steps that would spoil the weights; the processes of a training agree on them.

    Such a step changes no weight, nothing in the optimiser and no average. It counts as a step for
    the schedule and for the position in the data.

    Args:
        limit: so many of them one after another end the training.
        folder: of the run.
    """

    def __init__(self, limit: int, folder: Path) -> None:
        self.limit = limit
        self.folder = folder
        self.total = 0
        self.running = 0
        self._losses: list[Tensor] = []
        self._names: list[list[str]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, for the checkpoint."""
        return {"total": self.total, "running": self.running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.total, self.running = state_dict["total"], state_dict["running"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note which images come."""
        self._names.append(list(batch["name"]))

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Note their loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Take the gradients away if they, or the losses that they are of, are not finite.

        Raises:
            UserError: this is the last of too many.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        bad_loss, bad_gradients = self._agreed(trainer, [g for g in gradients if g is not None])
        names, losses, self._names, self._losses = self._names, self._losses, [], []
        if not (bad_loss or bad_gradients):
            self.running = 0
        else:
            _skip(trainer, optimizer)
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            # A scaler looks for its scale by overflows, which are no fault.
            if bad_loss or scaler is None or scaler.get_scale() <= 1:
                self._report(trainer, "loss" if bad_loss else "gradient", names, losses)
        pl_module.log(SKIPPED, float(self.total))

    def _agreed(self, trainer: Trainer, gradients: list[Tensor]) -> tuple[bool, bool]:
        """Tell whether losses and gradients are not finite, in any of the processes."""
        losses = torch.stack(self._losses)
        largest = torch.nn.utils.get_total_norm(gradients, math.inf).to(losses.device)
        bad = torch.stack([~losses.isfinite().all(), ~largest.isfinite()]).float()
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce(bad, reduce_op="max")
        bad_loss, bad_gradients = bad.tolist()
        return bool(bad_loss), bool(bad_gradients)

    def _report(
        self, trainer: Trainer, what: str, names: list[list[str]], losses: list[Tensor]
    ) -> None:
        self.total += 1
        self.running += 1
        step = trainer.global_step + 1
        images = _listed(_suspects(trainer, names, losses))
        if self.running >= self.limit:
            raise UserError(
                f"{self.running} steps one after another were skipped, as their loss or gradients "
                f"are not finite, the last of them step {step} (images: {images}): lower "
                "optimizer.lr, set trainer.gradient_clip_val=1 or trainer.precision=32-true, and "
                f"look at these images; the checkpoints in {self.folder} are from before"
            )
        if trainer.is_global_zero:
            print(
                f"Warning: step {step} was skipped: its {what} is not finite (images: {images})",
                file=sys.stderr,
                flush=True,
            )


def _skip(trainer: Trainer, optimizer: Optimizer) -> None:
    """Have the optimiser change nothing in this step, and the average with it."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and unscales_by_itself(optimizer):
        for group in optimizer.param_groups:  # which has yet to be looked at by the scaler
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.fill_(math.nan)
    else:
        optimizer.zero_grad()  # torch's optimisers pass over what has no gradient
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            skip_next_average(callback, trainer.global_step + 1)


def _suspects(trainer: Trainer, names: list[list[str]], losses: list[Tensor]) -> list[str]:
    """Return the images of all processes' batches whose loss is not finite; else of all batches."""
    finite = [bool(loss.isfinite()) for loss in losses]
    own = [(name, f) for batch, f in zip(names, finite, strict=False) for name in batch]
    everyones: list[Any] = [own]
    if trainer.world_size > 1:
        everyones = [None] * trainer.world_size
        torch.distributed.all_gather_object(everyones, own)
    everything = [pair for one in everyones for pair in one]
    return [name for name, f in everything if not f] or [name for name, _ in everything]


def _listed(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - _NAMED} more" if len(distinct) > _NAMED else ""
    return ", ".join(distinct[:_NAMED]) + more
