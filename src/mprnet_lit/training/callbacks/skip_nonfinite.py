"""Skipping of optimizer steps with a non-finite loss or gradient."""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim import Optimizer

from mprnet_lit.training.sharding import local
from mprnet_lit.utils.checks import require_number
from mprnet_lit.utils.compat import skip_next_average, unscales_by_itself
from mprnet_lit.utils.errors import UserError

_SHOWN = 8
"""Maximum number of images in a message."""


class SkipNonFinite(Callback):
    """Skips the optimizer steps with a non-finite loss or gradient on any device.

    A skipped step does not change the weights, the optimizer state or the averaged weights. It
    counts as a step for the schedule and for the position in the data. Gradient overflows in
    16-mixed precision are skipped too, but not counted.

    Args:
        folder: directory of the run, for messages.
        max_consecutive: number of consecutive skipped steps after which training stops.

    Attributes:
        total: number of skipped steps.
        consecutive: current number of consecutive skipped steps.
    """

    def __init__(self, folder: str | Path, max_consecutive: int = 10) -> None:
        require_number("max_consecutive", max_consecutive, low=1)
        self.folder = folder
        self.max_consecutive = max_consecutive
        self.total = 0
        self.consecutive = 0
        self._losses: list[Tensor] = []
        self._names: list[list[str]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, for the checkpoint."""
        return {"total": self.total, "running": self.consecutive}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.total, self.consecutive = state_dict["total"], state_dict["running"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Store the names of the images."""
        self._names.append(list(batch["name"]))

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Store the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Skip the step if a loss or a gradient is not finite on any device.

        Raises:
            UserError: the last ``max_consecutive`` steps were skipped.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        bad_loss, bad_gradients = self._agreed(
            trainer, [local(gradient) for gradient in gradients if gradient is not None]
        )
        names, losses, self._names, self._losses = self._names, self._losses, [], []
        if not (bad_loss or bad_gradients):
            self.consecutive = 0
        else:
            _skip(trainer, optimizer)
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            # Overflows are normal if the scale of a GradScaler is above 1; they reduce the scale.
            if bad_loss or scaler is None or scaler.get_scale() <= 1:
                self._report(trainer, "loss" if bad_loss else "gradient", names, losses)
        pl_module.log("train/skipped_steps", float(self.total))

    def _agreed(self, trainer: Trainer, gradients: list[Tensor]) -> tuple[bool, bool]:
        """Return two flags: any process has a non-finite loss, any has a non-finite gradient."""
        losses = torch.stack(self._losses)
        parts = [gradient for gradient in gradients if gradient.numel()]  # of a sharded network
        largest = torch.nn.utils.get_total_norm(parts, math.inf).to(losses.device)
        bad = torch.stack([~losses.isfinite().all(), ~largest.isfinite()]).float()
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce(bad, reduce_op="max")
        bad_loss, bad_gradients = bad.bool().tolist()
        return bad_loss, bad_gradients

    def _report(
        self, trainer: Trainer, what: str, names: list[list[str]], losses: list[Tensor]
    ) -> None:
        self.total += 1
        self.consecutive += 1
        step = trainer.global_step + 1
        images = _suspects(trainer, names, losses)
        if self.consecutive >= self.max_consecutive:
            raise UserError(
                f"{self.consecutive} consecutive steps were skipped because their loss or gradient "
                f"was not finite, most recently step {step} (images: {images}): lower "
                "optimizer.lr, set trainer.gradient_clip_val=1 or trainer.precision=32-true, and "
                f"check these images; the checkpoints in {self.folder} are not affected"
            )
        if trainer.is_global_zero:
            print(
                f"Warning: step {step} was skipped: its {what} is not finite (images: {images})",
                file=sys.stderr,
                flush=True,
            )


def _skip(trainer: Trainer, optimizer: Optimizer) -> None:
    """Skip the update of the weights and of the weight average in this step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and unscales_by_itself(optimizer):
        for group in optimizer.param_groups:  # the scaler detects NaN and skips the step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.fill_(math.nan)
    else:
        optimizer.zero_grad()  # torch optimizers skip parameters without a gradient
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            skip_next_average(callback, trainer.global_step + 1)


def _suspects(trainer: Trainer, names: list[list[str]], losses: list[Tensor]) -> str:
    """Return the images of the batches with a non-finite loss; all images if there is none."""
    finite = [bool(loss.isfinite()) for loss in losses]
    own = [(name, f) for batch, f in zip(names, finite, strict=False) for name in batch]
    gathered: list[Any] = [own]
    if trainer.world_size > 1:
        gathered = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, own)
    images = [pair for of_process in gathered for pair in of_process]
    found = [name for name, f in images if not f] or [name for name, _ in images]
    distinct = list(dict.fromkeys(found))
    more = f" and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return ", ".join(distinct[:_SHOWN]) + more
