"""LightningModule: training and validation steps, metrics, optimizer and schedule."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypedDict, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from mprnet_lit.metrics import psnr, ssim
from mprnet_lit.models import MPRNet
from mprnet_lit.models.padding import pad_to_multiple
from mprnet_lit.training.change import ChangeHistogram
from mprnet_lit.training.compilation import CompileSetting, Decision, decide
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.schedule import WarmupCosine
from mprnet_lit.utils.checks import require, require_function
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.transfer import to_device
from mprnet_lit.weights import RECORD, Info

RESTORATIONS = ("degraded", "stage1", "stage2", "stage3")
"""Names of the images that validation compares with the target: the input and each stage."""


TRAINED = ("train/loss", *(f"train/loss_stage{k}" for k in (1, 2, 3)), "train/psnr")
"""Scalars of a logged training step."""


_CHANGE = "change"
"""Key of the histogram of the change in checkpoints."""


class Batch(TypedDict):
    """Batch of image pairs (B, 3, H, W) in [0, 1], with names and weights (0 for padding)."""

    degraded: Tensor
    target: Tensor
    name: list[str]
    weight: Tensor


_PAPER = WarmupCosine()


class RestorationModule(LightningModule):
    """Trains an MPRNet with the summed loss of its stages.

    Args:
        model: network that returns a tuple of stages.
        loss: loss of the stages and the target.
        optimizer: function that builds the optimizer for parameters.
        schedule: builder of the learning-rate schedule.
        mixup_alpha: parameter of the Beta distribution of MixUp (Zhang et al., arXiv 1710.09412); 0
            disables MixUp.
        mixup_after_epoch: number of epochs before MixUp starts.
        channels_last: whether to use the channels_last memory format.
        compile: whether to compile parts of the network for the shape of the patches; ``"auto"``
            decides at the start of the training (see :mod:`mprnet_lit.training.compilation`).
        gradient_checkpointing: whether to use gradient checkpointing.
        seed: random seed of MixUp. The random numbers also depend on the step and the rank.
    """

    def __init__(
        self,
        model: MPRNet,
        loss: MultiStageLoss,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: WarmupCosine = _PAPER,
        mixup_alpha: float = 0.0,
        mixup_after_epoch: int = 5,
        channels_last: bool = True,
        compile: CompileSetting = "auto",
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require("model", model, MPRNet, "an MPRNet")
        require("loss", loss, nn.Module, "a loss")
        require_function("optimizer", optimizer)
        require("schedule", schedule, WarmupCosine, "a WarmupCosine")
        self.model = model
        self.loss = loss
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.mixup_alpha = mixup_alpha
        self.mixup_after_epoch = mixup_after_epoch
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if compile not in (True, False, "auto"):
            raise UserError(f"compile={compile} must be True, False or 'auto'")
        self.compiling = Decision(False, "not compiled")
        """Whether the network is compiled; decided at the start of the training."""
        self._compile_setting = compile
        self.seed = seed
        self.info = Info()
        """Metadata for checkpoints, which add the metrics and the change of the patches."""
        self.change = ChangeHistogram()
        """Differences between the degraded patches of this process and their targets."""
        model.set_gradient_checkpointing(gradient_checkpointing)
        model.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.quality = nn.ModuleDict(
            {
                f"{metric}_{name}": MeanMetric(nan_strategy="ignore")
                for metric in ("psnr", "ssim")
                for name in RESTORATIONS
            }
            | {f"saturated_{name}": MeanMetric() for name in RESTORATIONS[1:]}
        )

    def forward(self, degraded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return three unclamped stages for images (B, 3, H, W) in [0, 1] of any size."""
        height, width = degraded.shape[-2:]
        padded = pad_to_multiple(degraded).contiguous(memory_format=self.memory_format)
        one, two, three = self.model(padded)
        return tuple(s[..., :height, :width] for s in (one, two, three))

    def on_fit_start(self) -> None:
        """Compile the network, or leave it as it is, as ``compile`` says."""
        self.compiling = decide(self._compile_setting, self.trainer, self.model)
        if self.compiling.compiles:
            self.model.compile_regions()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of patches."""
        self.change.add(batch["degraded"], batch["target"])
        degraded, target = self._mixup(batch["degraded"], batch["target"])
        # Compiling for the size of the smaller last batch would take longer than it saves.
        full = getattr(self.trainer.train_dataloader, "batch_size", None) or len(target)
        with self._eager(when=len(target) < full):
            stages = self(degraded)
        # The progress shows the last batch of an epoch.
        if not (logs_this_step(self.trainer) or self.trainer.is_last_batch):
            return cast(Tensor, self.loss(stages, target))
        loss, parts = self.loss.parts(stages, target)
        with torch.no_grad():
            measured = torch.stack([loss, *parts, psnr(stages[-1], target).mean()])
        if self.trainer.world_size > 1:
            measured = self.trainer.strategy.reduce(measured, reduce_op="mean")
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        scalars = dict(zip(TRAINED, measured, strict=True)) | {"train/lr": rate}
        self.log_dict(scalars, batch_size=len(target))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Request a stop at ``max_steps``, so that a validation runs even within an epoch."""
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics, because ``trainer.validate()`` leaves inference tensors in them."""
        for name in self.quality:
            self._mean(name).reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Update the metrics of the degraded input and each stage; return the images by name."""
        target, weight = batch["target"], batch["weight"]
        # Compiling for the sizes of the validation images would take longer than it saves.
        with self._eager(when=True):
            stages = self(batch["degraded"])
        restored = dict(zip(RESTORATIONS, (batch["degraded"], *stages), strict=True))
        for name, image in restored.items():
            self._mean(f"psnr_{name}").update(psnr(image, target), weight)
            self._mean(f"ssim_{name}").update(ssim(image, target), weight)
            if name != "degraded":
                self._mean(f"saturated_{name}").update(_saturated(image, target), weight)
        return restored

    def on_validation_epoch_end(self) -> None:
        """Log the means over all images on all devices. ``val/psnr`` is for the last stage."""
        values = {name: self._mean(name).compute() for name in self.quality}
        values |= {metric: values[f"{metric}_stage3"] for metric in ("psnr", "ssim")}
        values["psnr_gain"] = values["psnr"] - values["psnr_degraded"]
        # compute() has already reduced the means over all processes.
        self.log_dict({f"val/{name}": value for name, value in values.items()}, sync_dist=False)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the warm-up cosine schedule.

        Raises:
            UserError: the optimizer settings are invalid, or no epoch or step limit is set.
        """
        try:
            optimizer = self.make_optimizer(self.model.parameters())
        except (TypeError, ValueError) as error:
            raise UserError(f"the settings under optimizer can't be used: {error}") from error
        self.trainer.fit_loop.setup_data()  # sets num_training_batches
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise UserError(
                "the learning-rate schedule needs the length of the training: set "
                "trainer.max_epochs or trainer.max_steps to a number above 0"
            )
        per_epoch = -(-self.trainer.num_training_batches // self.trainer.accumulate_grad_batches)
        schedule = self.schedule.build(
            optimizer, epochs=steps / per_epoch, steps_per_epoch=int(per_epoch)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metadata of the weights, with the metrics of the last validation."""
        metrics = {
            name: value.item()
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        info = replace(self.info, metrics=metrics, change=self.change.high())
        checkpoint[RECORD] = info.record(self.model.size)
        checkpoint[_CHANGE] = self.change.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the histogram of the change, which older checkpoints do not have."""
        self.change.load(checkpoint.get(_CHANGE))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients as configured in the trainer.

        Lightning does not clip for fused optimizers in mixed precision, not even in bfloat16, in
        which gradients are not scaled.
        """
        if grad_scaler(self.trainer) is not None:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
        elif gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(parameters, gradient_clip_val)
            else:
                nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def _eager(self, when: bool) -> AbstractContextManager[Any]:
        """Return a context in which a compiled network runs eagerly if ``when`` is set."""
        disabled = when and self.compiling.compiles
        return torch.compiler.set_stance("force_eager") if disabled else nullcontext()

    def _mean(self, name: str) -> MeanMetric:
        return cast(MeanMetric, self.quality[name])

    def _mixup(self, degraded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Blend each pair with another pair of the batch; input and target get the same weight."""
        if not self.mixup_alpha or self.current_epoch < self.mixup_after_epoch:
            return degraded, target
        rng = np.random.default_rng(
            [self.seed, self.global_rank, self.trainer.fit_loop.epoch_loop.total_batch_idx]
        )
        share = rng.beta(self.mixup_alpha, self.mixup_alpha, size=(len(target), 1, 1, 1))
        other = to_device(torch.from_numpy(rng.permutation(len(target))), target.device)
        own = to_device(torch.from_numpy(share).float(), target.device)
        return (
            own * degraded + (1 - own) * degraded[other],
            own * target + (1 - own) * target[other],
        )


def _saturated(image: Tensor, target: Tensor) -> Tensor:
    """Return the share of values of each image outside [0, 1] that are wrong by more than 0.1."""
    clamped = image.clamp(0, 1)
    wrong = (clamped != image) & ((clamped - target).abs() > 0.1)
    return wrong.flatten(1).float().mean(1)


def grad_scaler(trainer: Trainer) -> Any:
    """Return the GradScaler of a training with ``precision=16-mixed``, otherwise ``None``."""
    return getattr(trainer.precision_plugin, "scaler", None)


def logs_this_step(trainer: Trainer, done: bool = False) -> bool:
    """Return whether the scalars of the current step are logged. All devices get the same result.

    Every ``trainer.log_every_n_steps``-th step and the last step are logged.

    Args:
        trainer: trainer of the module.
        done: whether the optimizer has already taken the step.
    """
    step = trainer.global_step + (not done)
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and (step % every == 0 or step == trainer.max_steps)
