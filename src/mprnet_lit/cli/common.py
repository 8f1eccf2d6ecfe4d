"""Functions that read the configuration values of several modes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.inference import Restorer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory
from mprnet_lit.utils.outbox import uploaded
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


def inputs(config: DictConfig) -> list[str]:
    """Return the files, folders and globs of ``input`` as a list."""
    sources = config.input if OmegaConf.is_list(config.input) else [config.input]
    return [str(source) for source in sources]


def place(config: DictConfig, key: str) -> str:
    """Return the value of a key that names one file or folder."""
    value = OmegaConf.select(config, key, throw_on_missing=True)
    if OmegaConf.is_config(value):
        raise UserError(f"{key}={value} must name one file or folder")
    return str(value)


@contextmanager
def new_file(config: DictConfig) -> Iterator[Path]:
    """Yield ``output``, which must not exist unless ``overwrite`` is set; upload it to a URL."""
    with uploaded(place(config, "output"), overwrite=bool(config.overwrite)) as output:
        if output.exists() and not config.overwrite:
            raise UserError(f"{output} already exists: choose another output or add overwrite=true")
        yield output


def restorer(config: DictConfig, file: str | None = None, **overrides: Any) -> Restorer:
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
