"""Settings and best weights of a run, for all loggers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf

from mprnet_lit.runs.files import CONFIG, ENVIRONMENT
from mprnet_lit.runs.folder import RECORD
from mprnet_lit.training.records import Value, record_settings, record_weights
from mprnet_lit.utils.masking import mask_home_folders


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
                record_settings(logger, settings)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best weights."""
        path = best_weights(trainer)
        if not (trainer.is_global_zero and trainer.loggers and self.log_weights and path):
            return
        size = path.stat().st_size / 1e6
        if size > self.max_weights_mb:
            print(
                f"{path.name} is not logged: it has {size:.0f} MB, and tracking.max_weights_mb is "
                f"{self.max_weights_mb}"
            )
            return
        for logger in trainer.loggers:
            record_weights(logger, path)


def run_settings(folder: Path) -> dict[str, Value]:
    """Return the settings recorded in the folder of a run, with masked home directories.

    Returns:
        Settings by dotted key.
    """
    config: Any = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
    environment = json.loads((folder / ENVIRONMENT).read_text())
    record = json.loads((folder / RECORD).read_text())
    settings = {
        "run": {"folder": str(folder), "group": record["group"], "tags": ", ".join(record["tags"])},
        "code": environment["code"],
        "packages": {"python": environment["python"], **environment["packages"]},
        "machine": environment["machine"],
    }
    flat = _flat({**config, **settings})
    return {k: mask_home_folders(v) if isinstance(v, str) else v for k, v in flat}


def best_weights(trainer: Trainer) -> Path | None:
    """Return the best checkpoint of the run; ``None`` if it does not exist."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            path = Path(callback.best_model_path)
            return path if path.is_file() else None
    return None


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{key}", value if plain else "null" if value is None else str(value)
