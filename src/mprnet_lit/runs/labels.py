"""Group and tags of a run, for the loggers."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.runs.settings import NOT_THE_RUN, overrides_as_written
from mprnet_lit.utils.masking import mask_text

_LONGEST_TAG = 64
"""Largest length of a wandb tag in characters."""


def group(config: DictConfig) -> str:
    """Return the group of a run: ``tracking.group``, the name of its sweep, or its task."""
    if config.tracking.group is not None:
        return str(config.tracking.group)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        name = OmegaConf.select(config, "sweep.name")
        return str(name or Path(HydraConfig.get().sweep.dir).name)
    return str(config.task.name)


def tags(config: DictConfig) -> list[str]:
    """Return the tags of a run: ``tracking.tags``, then the overrides of the command.

    Credentials are masked.
    """
    overrides = overrides_as_written() if HydraConfig.initialized() else []
    own = [
        o for o in overrides if o.lstrip("+~").partition("=")[0].split(".")[0] not in NOT_THE_RUN
    ]
    named = [mask_text(str(tag)) for tag in (*config.tracking.tags, *own) if tag]
    return list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in named))
