"""The dashboards of a run: opening them, what every one of them gets, closing them."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.config.messages import instantiate
from mprnet_lit.runs.folder import NOT_THE_RUN
from mprnet_lit.runs.provenance import ENVIRONMENT
from mprnet_lit.runs.settings import overrides_as_written, recorded
from mprnet_lit.training.records import Value, guard, reason, record_settings, record_weights, title
from mprnet_lit.utils.compat import drop_anonymous
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.utils.masking import hide_homes, mask_text

_LONGEST_TAG = 64
"""Characters that wandb takes."""
QUIET = {
    # MLflow and wandb run git, which starts programs that the surrounding repository configures.
    # GitPython needs an executable that exits with 0; `true` prints nothing.
    "GIT_PYTHON_GIT_EXECUTABLE": shutil.which("true") or os.devnull,
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "WANDB__DISABLE_META": "true",  # the unmasked command line, user, host and paths
}
"""Defaults of environment variables that keep the libraries from the network, git and terminal."""


class Dashboards(Callback):
    """Gives every dashboard the run's settings at its start and its best weights at its end.

    Args:
        config: of the run.
        folder: of the run.
    """

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the resolved configuration, code revision, versions, group and tags."""
        if trainer.is_global_zero:
            settings = run_settings(self.config, self.folder)
            for logger in trainer.loggers:
                record_settings(logger, settings)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the best weights."""
        path = best_weights(trainer)
        if not trainer.is_global_zero or path is None or not self.config.logger.log_weights:
            return
        size, most = path.stat().st_size / 1e6, self.config.logger.max_weights_mb
        if size > most:
            print(
                f"The dashboards don't get {path.name}: it has {size:.0f} MB, and "
                f"logger.max_weights_mb is {most}"
            )
            return
        for logger in trainer.loggers:
            record_weights(logger, path)


def make_dashboards(config: DictConfig) -> list[Logger]:
    """Return the configured loggers, which record nothing yet.

    Raises:
        UserError: one of them can't be made.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    loggers = []
    for name, settings in config.logger.items():
        if OmegaConf.is_dict(settings):
            loggers.append(_make(str(name), settings, config))
            guard(loggers[-1])
    return loggers


def contact(loggers: Sequence[Logger], config: DictConfig) -> None:
    """Have every dashboard begin its run, while a failure is still cheap.

    Raises:
        UserError: one of them can't.
    """
    for logger in loggers:
        try:
            with _alone(config):
                _ = logger.experiment  # type: ignore[attr-defined]
        except Exception as error:  # each has errors of its own
            raise UserError(
                f"{title(logger)} can't record ({reason(error)}): put that right, or leave it out "
                "with another logger="
            ) from error


def close(failed: bool) -> None:
    """End the run in wandb, which has one a process: a sweep's next job needs another."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def group(config: DictConfig) -> str:
    """Return what this run is filed under: ``logger.group``, its sweep or its task."""
    if config.logger.group is not None:
        return str(config.logger.group)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        named = OmegaConf.select(config, "sweep.name")
        return str(named or Path(HydraConfig.get().sweep.dir).name)
    return str(config.task.name)


def tags(config: DictConfig) -> list[str]:
    """Return the run's tags: those of ``logger.tags``, then what the command overrode.

    Credentials in them are hidden.
    """
    overrides = overrides_as_written() if HydraConfig.initialized() else []
    own = [
        o for o in overrides if o.lstrip("+~").partition("=")[0].split(".")[0] not in NOT_THE_RUN
    ]
    named = [mask_text(str(tag)) for tag in (*config.logger.tags, *own) if tag]
    return list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in named))


def run_settings(config: DictConfig, folder: Path) -> dict[str, Value]:
    """Return the settings of a run by dotted names, without credentials and home folders."""
    environment = json.loads((folder / ENVIRONMENT).read_text())
    settings = {
        "run": {"folder": str(folder), "group": group(config), "tags": ", ".join(tags(config))},
        "code": environment["code"],
        "packages": {"python": environment["python"], **environment["packages"]},
        "machine": environment["machine"],
    }
    flat = _flat({**recorded(config), **settings})
    return {k: hide_homes(v) if isinstance(v, str) else v for k, v in flat}


def best_weights(trainer: Trainer) -> Path | None:
    """Return the best checkpoint of the run, if validation has chosen one."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            path = Path(callback.best_model_path)
            return path if path.is_file() else None
    return None


def _make(name: str, settings: DictConfig, config: DictConfig) -> Logger:
    target = str(settings.get("_target_", "")).rpartition(".")[2]
    folder = Path(config.paths.run).resolve()
    name_of_run = f"{folder.parent.name}/{folder.name}"
    extra: dict[str, Any] = {}
    if target == "WandbLogger":
        extra = {"group": group(config), "tags": tags(config)}
        extra["name"] = settings.get("name") or name_of_run
    elif target == "MLFlowLogger":
        extra = {"tags": {"group": group(config), "tags": ", ".join(tags(config))}}
        extra["run_name"] = settings.get("run_name") or name_of_run
    try:
        with _alone(config):
            logger: Logger = instantiate(settings, **extra)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ImportError):
            raise UserError(
                f"logger.{name} needs a package that is missing: {install_hint(name)}, "
                "or leave it out with another logger="
            ) from error
        raise UserError(f"logger.{name} can't be used: {reason(cause)}") from error
    if isinstance(logger, WandbLogger):
        drop_anonymous(logger)
    return logger


def _alone(config: DictConfig) -> BaseFileLock:
    """Keep other jobs of a sweep, and other processes of a run, from making the same store."""
    folder = Path(config.paths.runs)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".dashboards.lock")


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            yield f"{prefix}{key}", value if plain else "null" if value is None else str(value)
