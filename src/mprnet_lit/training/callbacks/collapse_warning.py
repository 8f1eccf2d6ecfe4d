"""Warning about stages that have collapsed."""

import sys

from lightning import Callback, LightningModule, Trainer

from mprnet_lit.runs.collapse import FIRST_STEP, find_collapse, first_check
from mprnet_lit.training.callbacks.ema import EMA
from mprnet_lit.utils.checks import require_number


class CollapseWarning(Callback):
    """Prints a warning with advice after a validation in which a stage has collapsed.

    A stage has collapsed if its PSNR is far below that of the degraded input, or if many of its
    values are wrongly outside [0, 1] (see :func:`mprnet_lit.runs.collapse.find_collapse`).

    Args:
        after_steps: number of steps before the first warning, because a network that is trained
            from scratch starts far below the degraded input. With averaged weights, the number is
            at least 3 / (1 - decay).
    """

    def __init__(self, after_steps: int = FIRST_STEP) -> None:
        require_number("after_steps", after_steps, low=0)
        self.after_steps = after_steps

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the warning."""
        averages = [c for c in trainer.callbacks if isinstance(c, EMA)]  # type: ignore[attr-defined]
        first = max([self.after_steps, *(first_check(average.decay) for average in averages)])
        if not trainer.is_global_zero or trainer.global_step < first:
            return
        metrics = trainer.callback_metrics.items()
        found = find_collapse({name.removeprefix("val/"): value.item() for name, value in metrics})
        if found:
            print(
                f"Warning: after step {trainer.global_step}, {found}: if the next validation does "
                "not improve, start again with a lower optimizer.lr, a larger "
                "schedule.min_warmup_steps or trainer.gradient_clip_val=1",
                file=sys.stderr,
                flush=True,
            )
