"""Skipping of optimizer steps with a non-finite loss or gradient."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Adam, Optimizer

from mprnet_lit.training.module import grad_scaler, logs_this_step
from mprnet_lit.training.sharding import local
from mprnet_lit.utils.checks import require_number
from mprnet_lit.utils.compat import unscales_by_itself
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.transfer import HostCopy, largest

_SHOWN = 8
"""Maximum number of images in a message."""


@dataclass(frozen=True)
class _Step:
    """Optimizer step whose flags are still on the device.

    Attributes:
        trainer: trainer of the step.
        number: number of the step, from 1.
        flags: whether a loss is not finite, whether a gradient is not finite, and whether the
            scale of the GradScaler is above 1.
        names: names of the images of each batch.
        losses: loss of each batch.
    """

    trainer: Trainer
    number: int
    flags: HostCopy
    names: list[list[str]]
    losses: list[Tensor]


class SkipNonFinite(Callback):
    """Skips the optimizer steps with a non-finite loss or gradient on any device.

    A skipped step does not change the weights and the optimizer state. It counts as a step for the
    schedule, for averaged weights and for the position in the data. Gradient overflows in 16-mixed
    precision are skipped too, but not counted. Fused Adam skips the step on the device: the
    host never waits for the flag of the current step, so the message may come one step later.

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
        self._pending: _Step | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the counts including the last step, for the checkpoint."""
        self._settle()
        return {"total": self.total, "running": self.consecutive}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.total, self.consecutive = state_dict["total"], state_dict["running"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the optimizers.

        Raises:
            UserError: a fused optimizer can't skip the steps of a GradScaler.
        """
        for optimizer in trainer.optimizers if grad_scaler(trainer) is not None else ():
            if unscales_by_itself(optimizer) and not _can_skip_on_device(optimizer):
                raise UserError(
                    f"{type(optimizer).__name__} with fused=true is not supported with "
                    "trainer.precision=16-mixed: remove optimizer.fused"
                )

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
        self._settle()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        flags = _flags(trainer, self._losses, gradients)
        self._pending = _Step(
            trainer, trainer.global_step + 1, HostCopy(flags), self._names, self._losses
        )
        self._names, self._losses = [], []
        if _can_skip_on_device(optimizer):
            _skip_on_device(trainer, optimizer, gradients, flags[:2].amax())
        elif self._settle():
            optimizer.zero_grad()  # optimizers of torch skip parameters without a gradient
        if logs_this_step(trainer):
            pl_module.log("train/skipped_steps", float(self.total))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the last step."""
        self._settle()

    def _settle(self) -> bool:
        """Count and report the pending step if it is skipped, and return whether it is."""
        step, self._pending = self._pending, None
        if step is None:
            return False
        bad_loss, bad_gradients, large_scale = map(bool, step.flags.tolist())
        if not (bad_loss or bad_gradients):
            self.consecutive = 0
            return False
        # A GradScaler with a scale above 1 expects overflows, and then reduces its scale.
        if bad_loss or not large_scale:
            self._report(step, "loss" if bad_loss else "gradient")
        return True

    def _report(self, step: _Step, what: str) -> None:
        self.total += 1
        self.consecutive += 1
        images = _suspects(step.trainer, step.names, step.losses)
        if self.consecutive >= self.max_consecutive:
            raise UserError(
                f"{self.consecutive} consecutive steps were skipped because their loss or gradient "
                f"was not finite, most recently step {step.number} (images: {images}): lower "
                "optimizer.lr, set trainer.gradient_clip_val=1 or trainer.precision=32-true, and "
                f"check these images; the checkpoints in {self.folder} are not affected"
            )
        if step.trainer.is_global_zero:
            print(
                f"Warning: step {step.number} was skipped: its {what} is not finite "
                f"(images: {images})",
                file=sys.stderr,
                flush=True,
            )


def _flags(trainer: Trainer, losses: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return the flags of :class:`_Step` on the device, (3,) float32, equal in all processes."""
    each = torch.stack(losses)
    parts = [gradient for gradient in gradients if gradient.numel()]  # of a sharded network
    norm = get_total_norm(parts).to(each.device)  # faster than the largest value
    scaler = grad_scaler(trainer)
    one = torch.ones((), device=each.device)
    large = (one if scaler is None else scaler.scale(one)) > 1  # get_scale() would wait
    return largest(torch.stack([~each.isfinite().all(), ~norm.isfinite(), large]).float())


def _can_skip_on_device(optimizer: Optimizer) -> bool:
    """Return whether an optimizer supports ``found_inf``.

    Fused SGD leaves its momentum uninitialized if it skips the first step.
    """
    return unscales_by_itself(optimizer) and isinstance(optimizer, Adam)


def _skip_on_device(
    trainer: Trainer, optimizer: Optimizer, gradients: list[Tensor], bad: Tensor
) -> None:
    """Make a fused optimizer skip the step if the scalar ``bad`` on its device is 1."""
    if grad_scaler(trainer) is None:
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # the attribute of GradScaler
    else:  # the GradScaler replaces found_inf by its own check of the gradients
        nan_or_zero = torch.zeros_like(bad).masked_fill_(bad.bool(), math.nan)
        for gradient in [g for g in gradients if g.numel()][:1]:  # shards may be empty
            gradient.add_(nan_or_zero)


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
