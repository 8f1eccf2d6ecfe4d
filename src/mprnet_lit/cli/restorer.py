"""Weights file and Restorer of a configuration."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.inference import Restorer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory
from mprnet_lit.weights.shipped import SHIPPED, shipped


def weights_file(config: DictConfig) -> str:
    """Return ``weights``; by default, the file in the package for the task or the benchmark."""
    if config.weights is not None:
        return str(config.weights)
    benchmark = config.get("benchmark")
    task = str(config.task.name if benchmark is None else benchmark.task)
    if task not in SHIPPED:
        raise UserError(
            f"weights is not set, and the package has no weights for {task}, only for "
            f"{', '.join(SHIPPED)}: add weights=FILE (.ckpt, .pth, .safetensors or .onnx)"
        )
    return str(shipped(task))


def build_restorer(config: DictConfig, file: str | None = None, **overrides: Any) -> Restorer:
    """Build the Restorer of a configuration; ``file`` and ``overrides`` take precedence."""
    options: Any = OmegaConf.to_container(config.inference)
    try:
        built = Restorer(file or weights_file(config), **options | overrides)
    except UserError as error:  # name the keys instead of the parameters
        names = "|".join(options)
        raise UserError(re.sub(rf"(?<![\w.])({names})=", r"inference.\1=", str(error))) from error
    if built.device.type == "cpu":
        keep_freed_memory()
    return built
