"""Learning-rate schedule of the paper: linear warm-up, then a cosine to the final rate."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mprnet_lit.utils.checks import require, require_number
from mprnet_lit.utils.compat import set_position


def warmup_cosine(progress: float, warmup: float, period: float, final_ratio: float) -> float:
    """Return the learning rate at ``progress`` as a fraction of the peak.

    Args:
        progress: epochs done; fractions are allowed.
        warmup: epochs of linear warm-up: the rate after k of them is (k + 1) / warmup, so that the
            first epoch already learns.
        period: epochs from the peak down to ``final_ratio`` along half a cosine.
        final_ratio: final learning rate over the peak.

    Raises:
        UserError: an argument is not a number, or it is negative.
    """
    for name, value in (("progress", progress), ("warmup", warmup), ("period", period)):
        require_number(name, value, low=0)
    require_number("final_ratio", final_ratio, low=0)
    if progress < warmup:
        return min(1.0, (progress + 1) / warmup)
    phase = min(1.0, (progress - warmup) / max(period, 1e-9))
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * phase))


def build_schedule(
    optimizer: Optimizer,
    *,
    epochs: float,
    steps_per_epoch: int,
    warmup_epochs: float,
    extra_period: float,
    final_lr: float,
    per_step: bool,
) -> LambdaLR:
    """Build the schedule; step it once an optimiser step if ``per_step``, else once an epoch.

    Args:
        optimizer: its current learning rate is the peak.
        epochs: length of the training.
        steps_per_epoch: optimiser steps in an epoch; used only if ``per_step``.
        warmup_epochs: shortened to half the training where that is shorter.
        extra_period: epochs added to the cosine's period, which then stops short of ``final_lr``
            (40 in the denoising recipe).
        final_lr: learning rate at the cosine's end.
        per_step: move a little every step rather than once an epoch.

    Raises:
        UserError: a number is out of its range, or ``optimizer`` is not an optimizer.
    """
    require("optimizer", optimizer, Optimizer, "a torch optimizer")
    require_number("epochs", epochs, low=1e-9)
    require_number("steps_per_epoch", steps_per_epoch, low=1)
    require_number("warmup_epochs", warmup_epochs, low=0)
    require_number("extra_period", extra_period, low=0)
    require_number("final_lr", final_lr, low=0)
    require_number("the optimizer's lr", optimizer.param_groups[0]["lr"], low=1e-30)
    warmup = min(warmup_epochs, epochs / 2)
    period = epochs - warmup + extra_period
    ratio = final_lr / optimizer.param_groups[0]["lr"]
    if not per_step:
        return LambdaLR(optimizer, lambda epoch: warmup_cosine(epoch, warmup, period, ratio))
    # One warm-up step as small as the first of warmup * steps_per_epoch of them.
    return LambdaLR(
        optimizer,
        lambda step: warmup_cosine(step, warmup * steps_per_epoch, period * steps_per_epoch, ratio),
    )


def move(schedule: LambdaLR, position: int) -> None:
    """Move a schedule, and the learning rate of its optimizer, to a position.

    Args:
        schedule: schedule at any position.
        position: number of steps that the schedule has taken.

    Raises:
        UserError: an argument has the wrong type, or ``position`` is negative.
    """
    require("schedule", schedule, LambdaLR, "a LambdaLR")
    require_number("position", position, low=0)
    set_position(schedule, position)
