"""Learning-rate schedule of the paper: linear warm-up and cosine decay."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mprnet_lit.utils.checks import require, require_number
from mprnet_lit.utils.compat import set_position


def warmup_cosine(progress: float, warmup: float, period: float, final_ratio: float) -> float:
    """Return the learning rate at ``progress`` as a fraction of the peak.

    Args:
        progress: number of completed epochs (or steps), which may be fractional.
        warmup: length of the linear warm-up, in the unit of ``progress``. The learning rate after k
            units is (k + 1) / warmup of the peak, so it starts above 0.
        period: length of the cosine decay from the peak to ``final_ratio``, in the same unit.
        final_ratio: ratio of the final learning rate to the peak.

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


class WarmupCosine:
    """Builder of a schedule with linear warm-up and cosine decay.

    A training is short if ``warmup_epochs`` is more than half of it, or has fewer steps than both
    ``min_warmup_steps`` and a tenth of the training. In a short training, the learning rate changes
    after every step. Its warm-up has ``min_warmup_steps``, or more if both ``warmup_epochs`` and a
    tenth of the training are longer, but at most half of the training.

    Args:
        warmup_epochs: number of warm-up epochs; 0 disables the warm-up.
        extra_period: number of epochs added to the period of the cosine, so that the training ends
            above ``final_lr`` (40 for denoising in the paper).
        final_lr: learning rate at the end of the cosine.
        per_step: whether the learning rate changes after every step instead of every epoch.
        min_warmup_steps: minimum number of warm-up steps of a short training; 0 treats no training
            as short, and limits ``warmup_epochs`` to half of the training.

    Raises:
        UserError: a number is negative or not finite.
    """

    def __init__(
        self,
        warmup_epochs: float = 3,
        extra_period: float = 0,
        final_lr: float = 1e-6,
        per_step: bool = False,
        min_warmup_steps: int = 300,
    ) -> None:
        require_number("warmup_epochs", warmup_epochs, low=0)
        require_number("extra_period", extra_period, low=0)
        require_number("final_lr", final_lr, low=0)
        require_number("min_warmup_steps", min_warmup_steps, low=0)
        self.warmup_epochs = warmup_epochs
        self.extra_period = extra_period
        self.final_lr = final_lr
        self.per_step = per_step
        self.min_warmup_steps = min_warmup_steps

    def build(self, optimizer: Optimizer, *, epochs: float, steps_per_epoch: int) -> LambdaLR:
        """Return the schedule in units of optimizer steps.

        Args:
            optimizer: optimizer whose current learning rate is the peak.
            epochs: training length in epochs.
            steps_per_epoch: number of optimizer steps in an epoch.

        Raises:
            UserError: a number is out of its range, or ``optimizer`` is not an optimizer.
        """
        require("optimizer", optimizer, Optimizer, "a torch optimizer")
        require_number("epochs", epochs, low=1e-9)
        require_number("steps_per_epoch", steps_per_epoch, low=1)
        peak = optimizer.param_groups[0]["lr"]
        require_number("the optimizer's lr", peak, low=1e-30)
        steps, warmup = epochs * steps_per_epoch, self.warmup_epochs * steps_per_epoch
        is_short = min(self.min_warmup_steps, warmup) > 0 and (
            warmup > steps / 2 or warmup < min(self.min_warmup_steps, steps / 10)
        )
        if is_short:
            warmup = max(self.min_warmup_steps, min(warmup, steps / 10))
        warmup = min(warmup, steps / 2)
        period = steps - warmup + self.extra_period * steps_per_epoch
        # The first of n warm-up units has 1/n of the peak learning rate.
        unit = 1 if self.per_step or is_short else steps_per_epoch
        return LambdaLR(
            optimizer,
            lambda step: warmup_cosine(
                step // unit, warmup / unit, period / unit, self.final_lr / peak
            ),
        )


def move(schedule: LambdaLR, position: int) -> None:
    """Set the position of a schedule, and update the learning rate of its optimizer.

    Args:
        schedule: schedule at any position.
        position: number of steps that the schedule has taken.

    Raises:
        UserError: an argument has the wrong type, or ``position`` is negative.
    """
    require("schedule", schedule, LambdaLR, "a LambdaLR")
    require_number("position", position, low=0)
    set_position(schedule, position)
