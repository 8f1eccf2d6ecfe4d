"""Configuration values that several modes use."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.inference import Restorer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory
from mprnet_lit.weights.shipped import SHIPPED, shipped


def weights_file(config: DictConfig) -> str:
    """Return ``weights``, or the weights file in the package for the task if it is not set.

    With a benchmark, the task is the task of the benchmark.

    Raises:
        UserError: ``weights`` is not set, and the package has no weights for the task.
    """
    if config.weights is not None:
        return str(config.weights)
    benchmark = config.get("benchmark")
    task = str(config.task.name if benchmark is None else benchmark.task)
    if task not in SHIPPED:
        raise UserError(
            f"weights is not set, and no weights for {task} are in the package, only for "
            f"{', '.join(SHIPPED)}: add weights=FILE (.ckpt, .pth, .safetensors or .onnx)"
        )
    return str(shipped(task))


def inputs(config: DictConfig) -> list[str]:
    """Return the files, folders and globs of ``input`` as a list."""
    several = OmegaConf.is_list(config.input)
    return [str(source) for source in config.input] if several else [str(config.input)]


def place(config: DictConfig, key: str) -> str:
    """Return the value of a key that names one file or folder.

    Raises:
        UserError: the value is a list or a mapping.
    """
    value = OmegaConf.select(config, key, throw_on_missing=True)
    if OmegaConf.is_config(value):
        raise UserError(f"{key}={value} must name one file or folder")
    return str(value)


def new_file(config: DictConfig) -> Path:
    """Return ``output``.

    Raises:
        UserError: ``output`` exists and ``overwrite`` is not set.
    """
    output = Path(place(config, "output"))
    if output.exists() and not config.overwrite:
        raise UserError(f"{output} is there already: choose another output or add overwrite=true")
    return output


def restorer(config: DictConfig, device: str | None = None) -> Restorer:
    """Build a Restorer.

    Args:
        config: configuration of the command.
        device: device to use instead of ``inference.device``.

    Raises:
        UserError: the weights can't be found or read, or an option is invalid.
    """
    options: Any = OmegaConf.to_container(config.inference)
    if device is not None:
        options["device"] = device
    file = weights_file(config)
    try:
        built = Restorer(file, **options)
    except UserError as error:
        names = "|".join(options)
        raise UserError(re.sub(rf"(?<![\w.])({names})=", r"inference.\1=", str(error))) from error
    if built.device.type == "cpu":
        keep_freed_memory()
    return built
