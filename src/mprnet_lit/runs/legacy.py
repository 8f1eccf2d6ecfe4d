"""Comparison with runs of release 0.1, whose fingerprints differ from those of this release."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.runs.files import CONFIG, flatten, read_yaml
from mprnet_lit.runs.settings import NOT_THE_RUN, recorded

Upgrade = Callable[[Mapping[str, Any], Container[str]], dict[str, Any]]
"""Function that renames settings of release 0.1, given the keys of this release."""


def is_same_training(config: DictConfig, folder: Path, upgrade: Upgrade) -> bool:
    """Return whether a run of release 0.1 has the settings of a command.

    Settings that exist in only one of the releases are ignored.

    Args:
        config: configuration of the command.
        folder: directory of the run.
        upgrade: function that renames the settings of the run.
    """
    stored, _ = read_yaml(folder, CONFIG)
    if not isinstance(stored, dict) or "task" not in stored or "paths" not in stored:
        return False
    asked = OmegaConf.masked_copy(config.copy(), [str(k) for k in config if k != "hydra"])
    asked.paths.run = stored["paths"]["run"]  # the directory of a new run is not known yet
    here = flatten(recorded(asked))
    there = upgrade(flatten(stored), here)
    return all(
        here[key] == value
        for key, value in there.items()
        if key in here and key.partition(".")[0] not in NOT_THE_RUN
    )
