"""Speed, memory use and gradient norm during training."""

import time
from contextlib import suppress
from typing import Any

import psutil
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mprnet_lit.training.module import Batch, grad_scaler, logs_this_step
from mprnet_lit.training.sharding import gathered
from mprnet_lit.utils.compat import logged_step, unscales_by_itself


class Monitor(Callback):
    """Logs ``train/grad_norm`` and ``perf/*`` every ``trainer.log_every_n_steps`` steps.

    Time spent in validation is excluded.
    """

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.has_utilization = True
        self.stepped = False
        self.norm: Tensor | None = None
        self._restart()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the counters."""
        psutil.cpu_percent()  # each call returns the usage since the previous call
        self._restart()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the time between epochs."""
        self.mark = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exclude the time of validation."""
        self.mark = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Add the time since the last step to the time spent waiting for data."""
        self.waited += time.perf_counter() - self.mark

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure the gradients before clipping."""
        self.stepped = True
        if trainer.loggers and logs_this_step(trainer):
            self.norm = gradient_norm(trainer, optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Count the batch, and log every ``trainer.log_every_n_steps`` steps."""
        now = time.perf_counter()
        self.seconds += now - self.mark
        self.mark = now
        self.patches += len(batch["target"])
        if self.stepped and trainer.loggers and logs_this_step(trainer, done=True):
            self._log(trainer)
            self._restart()
        self.stepped = False

    def _log(self, trainer: Trainer) -> None:
        ours = torch.tensor(
            [self.patches / self.seconds, self.waited / self.seconds],
            device=trainer.strategy.root_device,
        )
        # Summed over the devices; the elapsed time is the same on all of them.
        speed, waited = trainer.strategy.reduce(ours, reduce_op="sum").tolist()
        if not trainer.is_global_zero:
            return
        values = {
            "epoch": float(trainer.current_epoch),  # Lightning also adds the epoch to other scalars
            "perf/patches_per_second": speed,
            "perf/data_wait": waited / trainer.world_size,
            **self._machine(trainer.strategy.root_device),
        }
        if self.norm is not None:
            values["train/grad_norm"] = self.norm.item()
        for logger in trainer.loggers:
            logger.log_metrics(values, logged_step(trainer))
            logger.save()

    def _machine(self, device: torch.device) -> dict[str, float]:
        memory = resident_bytes(self.process)
        values = {"perf/cpu_percent": psutil.cpu_percent(), "perf/memory_gb": memory / 1e9}
        if device.type == "cuda":
            values["perf/gpu_memory_gb"] = torch.cuda.memory_reserved(device) / 1e9
            if self.has_utilization:
                try:
                    values["perf/gpu_percent"] = float(torch.cuda.utilization(device))
                except Exception:  # needs nvidia-ml-py and support by the driver
                    self.has_utilization = False
        return values

    def _restart(self) -> None:
        self.norm = None
        self.patches = 0
        self.seconds = self.waited = 0.0
        self.mark = time.perf_counter()
        """Time of the latest end of a step, end of a validation, or start of an epoch."""


def gradient_norm(trainer: Trainer, optimizer: Optimizer) -> Tensor:
    """Return the L2 norm of all gradients before clipping."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    norm: Tensor = gathered(
        get_total_norm([gradient for gradient in gradients if gradient is not None])
    )
    scaler = grad_scaler(trainer)
    # With 16-mixed, the gradients of fused optimizers are still scaled, those of others are not.
    if scaler is not None and unscales_by_itself(optimizer):
        norm = norm / scaler.get_scale()
    return norm


def resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process and its children."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):  # the process has just exited
            total += each.memory_info().rss
    return total
