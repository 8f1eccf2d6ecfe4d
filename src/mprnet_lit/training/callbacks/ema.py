"""Exponential moving average of the weights."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mprnet_lit.utils.checks import require_number
from mprnet_lit.utils.compat import averaged_model


class EMA(WeightAveraging):
    """Averages the weights after each step on their device, in one operation.

    The averaged weights are validated and saved. Lightning's ``EMAWeightAveraging`` keeps the
    average on the CPU and updates each tensor separately. A step that is skipped because of a
    non-finite value averages the unchanged weights.

    Args:
        decay: weight of the previous average, 0 to 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        require_number("decay", decay, low=0, high=1)
        super().__init__()
        self.decay = decay
        self._average = get_ema_multi_avg_fn(decay)
        self._count = 0
        self._last_step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the device of the weights."""
        averaged_model(self).to(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """List the tensors, and read the number of averaged steps from a loaded checkpoint."""
        average = averaged_model(self)
        self._averaged, self._current = [*average.module.parameters()], [*pl_module.parameters()]
        self._buffers = [*zip(average.module.buffers(), pl_module.buffers(), strict=True)]
        self._count = int(average.n_averaged)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Average the weights if the optimizer has taken a step."""
        if trainer.global_step > self._last_step:
            self._last_step = trainer.global_step
            self._update()

    @torch.no_grad()
    def _update(self) -> None:
        copied = self._buffers
        if self._count:
            self._average(self._averaged, self._current, self._count)
        else:
            copied = [*copied, *zip(self._averaged, self._current, strict=True)]
        for old, new in copied:
            old.copy_(new)
        averaged_model(self).n_averaged += 1  # on the device, for the checkpoint
        self._count += 1
