"""Pruning of trials that are worse than the median of earlier trials."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console

from mprnet_lit.sweeps.study import PRUNED, require_optuna
from mprnet_lit.utils.compat import trial_id
from mprnet_lit.utils.console import print_line


class Pruner(Callback):
    """Reports the validation PSNR to the study, and stops training when the trial is pruned.

    A pruned training run ends normally, with its checkpoints and its summary. With several
    objectives, the callback has no effect, because Optuna does not support pruning then.

    Args:
        storage: Optuna storage URL of the study.
        study: name of the study.
        trial: number of the trial; ``None`` outside of a sweep.
        startup_trials: number of trials before pruning starts.
        warmup_epochs: number of epochs of each trial without pruning.
    """

    def __init__(
        self,
        storage: str,
        study: str,
        trial: int | None,
        startup_trials: int = 5,
        warmup_epochs: int = 1,
    ) -> None:
        self.storage = storage
        self.study = study
        self.number = trial
        self.startup_trials = startup_trials
        self.warmup_epochs = warmup_epochs
        self._trial: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the trial in the process of rank 0."""
        if self.number is None or not trainer.is_global_zero:
            return
        optuna = require_optuna()
        pruner = optuna.pruners.MedianPruner(self.startup_trials, self.warmup_epochs)
        study = optuna.load_study(study_name=self.study, storage=self.storage, pruner=pruner)
        if len(study.directions) == 1:
            self._trial = optuna.trial.Trial(study, trial_id(study.trials[self.number]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the PSNR, and stop if the study prunes the trial."""
        stop = False
        if self._trial is not None:
            psnr = trainer.callback_metrics["val/psnr"].item()
            self._trial.report(psnr, trainer.current_epoch)
            stop = self._trial.should_prune()
        if self.number is None or not trainer.strategy.broadcast(stop):
            return
        trainer.should_stop = True
        if self._trial is not None:
            self._trial.set_user_attr(PRUNED, True)
            print_line(
                Console(),
                f"pruned after epoch {trainer.current_epoch + 1}: the PSNR is below the median of "
                "earlier trials",
            )
