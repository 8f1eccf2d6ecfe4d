"""One function for each kind of record, which puts it into a dashboard in that one's own way.

A dashboard that fails, for want of space, say, is left out from then on with one sentence: the
training goes on.
"""

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from PIL import Image

from mprnet_lit.utils.compat import logged_step, write_summary
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import printable

Value = bool | int | float | str
"""A setting that every dashboard can hold."""

_FAILED: WeakSet[Logger] = WeakSet()


def step_of(trainer: Trainer) -> int:
    """Return the step under which Lightning logs its own scalars now."""
    return logged_step(trainer)


def record_scalars(logger: Logger, values: Mapping[str, float], step: int) -> None:
    """Record numbers by their names."""
    logger.log_metrics(dict(values), step)
    logger.save()


def record_image(logger: Logger, name: str, image: NDArray[np.uint8], step: int) -> None:
    """Record an image (H, W, 3); CSV has no place for one."""
    if isinstance(logger, TensorBoardLogger):
        attempt(logger, lambda: logger.experiment.add_image(name, image, step, dataformats="HWC"))
    elif isinstance(logger, WandbLogger):
        attempt(logger, lambda: logger.log_image(name, [Image.fromarray(image)], step=step))
    elif isinstance(logger, MLFlowLogger):
        attempt(
            logger,
            lambda: logger.experiment.log_image(logger.run_id, image, key=name, step=step),
        )


def record_settings(logger: Logger, settings: Mapping[str, Value]) -> None:
    """Record what the run is made of: TensorBoard's hparams, MLflow's params, wandb's config.

    In CSV's folder it is ``hparams.yaml``.
    """
    values = dict(settings)
    if isinstance(logger, TensorBoardLogger):
        attempt(logger, lambda: _tensorboard_settings(logger, values))
    elif isinstance(logger, MLFlowLogger):
        attempt(logger, lambda: _mlflow_settings(logger, values))
    else:
        logger.log_hyperparams(values)


def record_weights(logger: Logger, path: Path) -> None:
    """Record a file of weights as an artifact; for TensorBoard and CSV it lies in the run's folder.

    wandb's is not copied: ``wandb sync`` takes it from where it lies.
    """
    if isinstance(logger, WandbLogger):
        attempt(logger, lambda: _wandb_weights(logger, path))
    elif isinstance(logger, MLFlowLogger):
        attempt(logger, lambda: logger.experiment.log_artifact(logger.run_id, str(path), "weights"))


def guard(logger: Logger) -> None:
    """Let whatever calls this dashboard survive its failures."""
    for name in ("log_metrics", "log_hyperparams", "save", "finalize"):
        setattr(logger, name, partial(attempt, logger, getattr(logger, name)))


def attempt(logger: Logger, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Do something with a dashboard; if that fails say so, and do nothing with it any more."""
    if logger in _FAILED:
        return
    try:
        action(*args, **kwargs)
    except Exception as error:  # each has errors of its own, and none is worth a training
        _FAILED.add(logger)
        print(
            f"Warning: {title(logger)} can't record any more ({reason(error)}): the training goes "
            "on without it",
            file=sys.stderr,
        )


def title(logger: Logger) -> str:
    """Return a dashboard's name."""
    return type(logger).__name__.removesuffix("Logger").replace("MLFlow", "MLflow")


def reason(error: BaseException) -> str:
    """Return an error's first line, or its class if it has none."""
    lines = str(error).strip().splitlines()
    return mask_text(printable(lines[0].rstrip(".:"))) if lines else type(error).__name__


def _tensorboard_settings(logger: TensorBoardLogger, settings: dict[str, Value]) -> None:
    from torch.utils.tensorboard.summary import hparams

    logger.hparams.update(settings)
    logger.save()
    # The column of results in its table; the logger's own way would add a scalar to the curves.
    for summary in hparams(settings, {"val/psnr": math.nan}):
        write_summary(logger, summary)


def _mlflow_settings(logger: MLFlowLogger, settings: dict[str, Value]) -> None:
    from mlflow.entities import Param
    from mlflow.utils.validation import (
        MAX_ENTITY_KEY_LENGTH,
        MAX_PARAM_VAL_LENGTH,
        MAX_PARAMS_TAGS_PER_BATCH,
    )

    # The logger's own way cuts values at 250 characters.
    params = [
        Param(name[:MAX_ENTITY_KEY_LENGTH], str(value)[:MAX_PARAM_VAL_LENGTH])
        for name, value in settings.items()
    ]
    for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
        chunk = params[start : start + MAX_PARAMS_TAGS_PER_BATCH]
        logger.experiment.log_batch(logger.run_id, params=chunk)


def _wandb_weights(logger: WandbLogger, path: Path) -> None:
    import wandb

    run = logger.experiment
    artifact = wandb.Artifact(f"weights-{run.id}", type="model")
    artifact.add_file(str(path), policy="immutable")
    run.log_artifact(artifact, aliases=["best"])
