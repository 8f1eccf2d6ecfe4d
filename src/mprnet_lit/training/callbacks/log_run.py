"""Settings and best weights of a run, for all loggers."""

import json
from pathlib import Path
from typing import Any

import yaml
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mprnet_lit.runs.files import CONFIG, ENVIRONMENT, flatten
from mprnet_lit.runs.folder import RECORD
from mprnet_lit.training.records import Value, attempt, record_settings, record_weights
from mprnet_lit.utils.masking import mask_home_folders
from mprnet_lit.utils.text import exceeding
from mprnet_lit.utils.untrusted import SAFE_LOADER


class LogRun(Callback):
    """Logs the settings of the run at its start and its best weights at its end.

    Args:
        folder: directory of the run.
        log_weights: whether to log the best weights.
        max_weights_mb: maximum size of logged weights in MB.
    """

    def __init__(
        self, folder: str | Path, log_weights: bool = True, max_weights_mb: float = 500
    ) -> None:
        self.folder = Path(folder)
        self.log_weights = log_weights
        self.max_weights_mb = max_weights_mb

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the resolved configuration, code revision, versions, group and tags."""
        if trainer.is_global_zero and trainer.loggers:
            settings = run_settings(self.folder)
            for logger in trainer.loggers:
                attempt(logger, record_settings, logger, settings)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best weights."""
        best = [
            Path(callback.best_model_path)
            for callback in trainer.checkpoint_callbacks
            if isinstance(callback, ModelCheckpoint) and callback.monitor
        ]
        path = next((path for path in best if path.is_file()), None)
        if not (trainer.is_global_zero and trainer.loggers and self.log_weights and path):
            return
        size = path.stat().st_size / 1e6
        if size > self.max_weights_mb:
            shown, _ = exceeding(size, self.max_weights_mb)
            print(
                f"{path.name} is not logged: its size of {shown} MB exceeds "
                f"tracking.max_weights_mb={self.max_weights_mb}"
            )
            return
        for logger in trainer.loggers:
            attempt(logger, record_weights, logger, path)


def run_settings(folder: Path) -> dict[str, Value]:
    """Return the recorded settings of a run by dotted key, with masked home directories."""
    config: Any = yaml.load((folder / CONFIG).read_bytes(), SAFE_LOADER)
    environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    settings = {
        "run": {"folder": str(folder), "group": record["group"], "tags": ", ".join(record["tags"])},
        "code": environment["code"],
        "packages": {"python": environment["python"], **environment["packages"]},
        "machine": environment["machine"],
    }
    return {key: _plain(value) for key, value in flatten(config | settings).items()}


def _plain(value: Any) -> Value:
    """Return a value of a type that all loggers support."""
    if isinstance(value, bool | int | float):
        return value
    return "null" if value is None else mask_home_folders(str(value))
