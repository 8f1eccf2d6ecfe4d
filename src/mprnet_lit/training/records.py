"""Logging of scalars, images, settings and weights for all types of loggers.

Call these functions with :func:`attempt`: if a logger fails, for example because the disk is full,
it is disabled with a warning, and training continues.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from PIL import Image

from mprnet_lit.utils.compat import write_summary
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import printable

Value = bool | int | float | str
"""Type of value that all loggers support."""

_FAILED: WeakSet[Logger] = WeakSet()
"""Disabled loggers."""


def record_image(logger: Logger, name: str, image: NDArray[np.uint8], step: int) -> None:
    """Log an image (H, W, 3). Only TensorBoard, wandb and MLflow support images."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, image, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [Image.fromarray(image)], step=step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, image, key=name, step=step)


def record_table(
    logger: Logger,
    name: str,
    columns: Sequence[str],
    rows: Callable[[], Sequence[Sequence[str | float | NDArray[np.uint8]]]],
    step: int,
) -> None:
    """Log a table of texts, numbers and images (H, W, 3). Only wandb supports tables.

    Args:
        logger: logger of the training.
        name: name of the table.
        columns: names of the columns.
        rows: function that returns the rows; it is called for wandb only.
        step: step of the training.
    """
    if isinstance(logger, WandbLogger):
        import wandb

        data = [
            [wandb.Image(Image.fromarray(v)) if isinstance(v, np.ndarray) else v for v in row]
            for row in rows()
        ]
        logger.log_table(name, columns=list(columns), data=data, step=step)


def record_settings(logger: Logger, settings: dict[str, Value]) -> None:
    """Log the settings of the run.

    The settings become the hparams of TensorBoard, the params of MLflow, the config of wandb, or
    the file ``hparams.yaml`` of CSV.
    """
    if isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard.summary import hparams

        logger.hparams.update(settings)
        logger.save()
        # Adds a column for the result; log_hyperparams would add a scalar to the curves.
        for summary in hparams(settings, {"val/psnr": math.nan}):
            write_summary(logger, summary)
    elif isinstance(logger, MLFlowLogger):
        from mlflow.entities import Param
        from mlflow.utils import validation as limits

        # log_hyperparams truncates values to 250 characters.
        params = [
            Param(name[: limits.MAX_ENTITY_KEY_LENGTH], str(value)[: limits.MAX_PARAM_VAL_LENGTH])
            for name, value in settings.items()
        ]
        size = limits.MAX_PARAMS_TAGS_PER_BATCH
        for start in range(0, len(params), size):
            logger.experiment.log_batch(logger.run_id, params=params[start : start + size])
    else:
        logger.log_hyperparams(settings)


def record_weights(logger: Logger, path: Path) -> None:
    """Log a weights file as an artifact of wandb or MLflow.

    wandb does not copy the file: ``wandb sync`` uploads it from its folder.
    """
    if isinstance(logger, WandbLogger):
        import wandb

        run = logger.experiment
        artifact = wandb.Artifact(f"weights-{run.id}", type="model")
        artifact.add_file(str(path), policy="immutable")
        run.log_artifact(artifact, aliases=["best"])
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(path), "weights")


def guard(logger: Logger) -> None:
    """Wrap the methods of a logger with :func:`attempt`, so that they do not raise errors."""
    for name in ("log_metrics", "log_hyperparams", "save", "finalize"):
        setattr(logger, name, partial(attempt, logger, getattr(logger, name)))


def attempt(logger: Logger, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a function that uses a logger. On an error, print a warning and disable the logger."""
    if logger in _FAILED:
        return
    try:
        action(*args, **kwargs)
    except Exception as error:  # each library has its own exceptions
        _FAILED.add(logger)
        print(
            f"Warning: {title(logger)} failed and is disabled ({reason(error)}): training "
            "continues",
            file=sys.stderr,
        )


def title(logger: Logger) -> str:
    """Return the name of a logger, for messages."""
    return type(logger).__name__.removesuffix("Logger").replace("MLFlow", "MLflow")


def reason(error: BaseException) -> str:
    """Return the first line of an error, or its class if the error has no message."""
    lines = str(error).strip().splitlines()
    return mask_text(printable(lines[0].rstrip(".:"))) if lines else type(error).__name__
