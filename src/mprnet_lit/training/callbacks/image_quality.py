"""Metrics of pyiqa in validation."""

from collections.abc import Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torchmetrics import MeanMetric

from mprnet_lit.metrics.iqa import IqaScores, load_metrics
from mprnet_lit.training.module import Batch
from mprnet_lit.utils.checks import require


class ImageQuality(Callback):
    """Logs metrics of pyiqa for the degraded input and the last stage after each validation.

    Args:
        metrics: names of pyiqa, such as ``niqe``. Without names, the callback does nothing.

    Raises:
        UserError: see :func:`.metrics.iqa.load_metrics`.
    """

    def __init__(self, metrics: Sequence[str] = ()) -> None:
        require("metrics", metrics, (list, tuple), "a list of names")
        self.scores = IqaScores(load_metrics(metrics)) if metrics else None
        self._means: dict[str, MeanMetric] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the means."""
        if self.scores is not None:
            self.scores.to(pl_module.device)
            self._means = {
                f"val/{name}{suffix}": MeanMetric(nan_strategy="ignore").to(pl_module.device)
                for name in self.scores.columns
                for suffix in ("", "_degraded")
            }

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Add the scores of the images of a batch."""
        if self.scores is None:
            return
        target = batch["target"].float()
        for suffix, name in (("", "stage3"), ("_degraded", "degraded")):
            rounded = (outputs[name].float().clamp(0, 1) * 255).round() / 255
            scores = self.scores.measure(rounded, target)
            for column, values in zip(self.scores.columns, scores.T, strict=True):
                self._means[f"val/{column}{suffix}"].update(values, batch["weight"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means over all images on all devices."""
        # compute() has already reduced the means over all processes.
        pl_module.log_dict({name: mean.compute() for name, mean in self._means.items()})
