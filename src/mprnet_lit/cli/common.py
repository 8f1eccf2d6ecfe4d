"""What several modes read off the configuration."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.inference import Restorer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory
from mprnet_lit.weights.shipped import SHIPPED, shipped

INFERENCE = (
    "tile",
    "overlap",
    "tile_batch",
    "memory_gb",
    "tlc",
    "tlc_crop",
    "self_ensemble",
    "precision",
    "device",
    "compile",
)
"""The keys of ``conf/mode/_inference.yaml``."""


def weights_file(config: DictConfig) -> str:
    """Return ``weights``; where it is not set, the package's file for the task.

    The task is the benchmark's, if there is one.

    Raises:
        UserError: there are none for the task.
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
    """Return ``input``: one file, folder or glob, or several."""
    several = OmegaConf.is_list(config.input)
    return [str(source) for source in config.input] if several else [str(config.input)]


def place(config: DictConfig, key: str) -> str:
    """Return the value of a key that names one file or folder.

    Raises:
        UserError: the value is a list or a mapping.
    """
    if OmegaConf.is_config(config[key]):
        raise UserError(f"{key}={config[key]} must name one file or folder")
    return str(config[key])


def new_file(config: DictConfig) -> Path:
    """Return ``output``.

    Raises:
        UserError: it is there already and ``overwrite`` is not set.
    """
    output = Path(place(config, "output"))
    if output.exists() and not config.overwrite:
        raise UserError(f"{output} is there already: choose another output or add overwrite=true")
    return output


def restorer(config: DictConfig, device: str | None = None) -> Restorer:
    """Build a Restorer, on ``device`` if that is given.

    Raises:
        UserError: as :func:`weights_file` and :class:`Restorer` do.
    """
    options = {key: config[key] for key in INFERENCE}
    built = Restorer(weights_file(config), **options | ({"device": device} if device else {}))
    if built.device.type == "cpu":
        keep_freed_memory()
    return built
