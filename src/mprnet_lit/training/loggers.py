"""Creation, opening and closing of loggers."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock
from hydra.errors import InstantiationException
from lightning import Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig

from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.runs.settings import group, tags
from mprnet_lit.training.build import configured
from mprnet_lit.training.records import guard, reason, title
from mprnet_lit.utils.compat import drop_anonymous, trains_in_child_processes
from mprnet_lit.utils.errors import UserError, install_hint

QUIET = {
    # MLflow and wandb run git, which may run programs that the current repository configures.
    # GitPython needs an executable that exits with 0; `true` prints nothing.
    "GIT_PYTHON_GIT_EXECUTABLE": shutil.which("true") or os.devnull,
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "WANDB__DISABLE_META": "true",  # meta: unmasked command line, user, host and paths
}
"""Default environment variables that disable git, telemetry and console output of loggers."""


def build_loggers(config: DictConfig) -> list[Logger]:
    """Return the configured loggers without opening them.

    Raises:
        UserError: a logger can't be created.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    return [_build(name, node, config) for name, node in configured(config.logger).items()]


@contextmanager
def opened(trainer: Trainer, config: DictConfig) -> Iterator[None]:
    """Open the loggers at the start of the context, and finish the wandb run at its end.

    With ``ddp_spawn``, the child processes open the loggers instead.

    Raises:
        UserError: a logger can't be opened.
    """
    if not trains_in_child_processes(trainer):
        for logger in trainer.loggers:
            try:
                with _lock(config):
                    _ = logger.experiment  # type: ignore[attr-defined]
            except Exception as error:  # each library has its own exceptions
                raise UserError(
                    f"{title(logger)} can't be opened ({reason(error)}): fix the cause, or choose "
                    "another logger="
                ) from error
    failed = True
    try:
        yield
        failed = False
    finally:
        wandb: Any = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:  # wandb has one run per process
            wandb.finish(exit_code=int(failed))


def _build(name: str, settings: DictConfig, config: DictConfig) -> Logger:
    target = str(settings["_target_"]).rpartition(".")[2]
    run_name = "/".join(Path(config.paths.run).resolve().parts[-2:])
    extra: dict[str, Any] = {}
    if target == "WandbLogger":
        extra = {"name": settings.get("name") or run_name}
        extra |= {"group": group(config), "tags": tags(config)}
    elif target == "MLFlowLogger":
        extra = {"run_name": settings.get("run_name") or run_name}
        extra["tags"] = {"group": group(config), "tags": ", ".join(tags(config))}
    try:
        with _lock(config):
            logger: Logger = instantiate(settings, **extra)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ImportError):
            raise UserError(
                f"logger.{name} needs a package that is not installed: {install_hint(name)}, or "
                "choose another logger="
            ) from error
        raise UserError(f"logger.{name} can't be used: {reason(cause)}") from error
    if isinstance(logger, WandbLogger):
        drop_anonymous(logger)
    guard(logger)
    return logger


def _lock(config: DictConfig) -> BaseFileLock:
    """Return the lock of the storage that all runs share, such as the MLflow database."""
    folder = Path(config.paths.runs)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".loggers.lock")
