"""Renamed and removed keys of earlier releases."""

from collections.abc import Container, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.config.groups import mode_keys, owners, valid_keys
from mprnet_lit.utils.deprecated import current_name
from mprnet_lit.utils.errors import UserError

_MOVED = {
    "inference": "tile overlap tile_batch memory_gb tlc tlc_crop self_ensemble precision device "
    "compile",
    "restore": "stages compare report",
    "evaluate": "target input_pattern target_pattern protocol perceptual",
    "serve": "host port allowed_hosts max_mb max_megapixels max_gb max_total_mb max_age_minutes",
    "export": "int8",
    "prepare": "verify",
    "profile": "largest_batch steps",
    "trainer": "deterministic",
}
"""Keys that moved from the root, by their new node."""
RENAMED = {key: f"{node}.{key}" for node, keys in _MOVED.items() for key in keys.split()} | {
    "module.warmup_epochs": "schedule.warmup_epochs",
    "module.extra_period": "schedule.extra_period",
    "module.final_lr": "schedule.final_lr",
    "module.schedule_per_step": "schedule.per_step",
    "logger.group": "tracking.group",
    "logger.tags": "tracking.tags",
    "logger.log_weights": "tracking.log_weights",
    "logger.max_weights_mb": "tracking.max_weights_mb",
    "trainer.peer_timeout": "callbacks.peer_check.timeout",
    "trainer.requeue": "callbacks.stop_on_signal.requeue",
    "trainer.max_bad_steps": "callbacks.skip_nonfinite.max_consecutive",
    "task.loss": "loss",
    "task.loss._target_": "loss._target_",
    "task.loss.edge_weight": "loss.edge_weight",
    "task.loss.clamp": "loss.clamp",
    "task.loss.eps": "loss.eps",
}
"""New key by old key, in all modes."""

RENAMED_IN_MODE = {
    "evaluate": {"data.on_error": "evaluate.on_error"},
    "profile": {"memory_gb": "profile.memory_gb"},
}
"""New key by old key, in a single mode."""

_REPLACED = {"lightning.pytorch.callbacks.EMAWeightAveraging": "mprnet_lit.training.callbacks.EMA"}
"""Class that an option of this release uses, by the class that it used in release 0.1."""

REMOVED = {
    "model.size": "choose the network with model=tiny, model=small, model=base or model=large",
    "task.paper": "the hyperparameters of a task are in its recipe (conf/recipe)",
    "trainer.auto_batch": "set a larger trainer.accumulate_grad_batches for smaller micro-batches",
}
"""Remedy by removed key."""


def new_name(key: str, mode: str) -> str | None:
    """Return the new name of an old key; ``None`` if ``mode`` did not rename the key."""
    new = (RENAMED | RENAMED_IN_MODE.get(mode, {})).get(key)
    return new if new in valid_keys() and key not in mode_keys(mode) else None


def upgraded(settings: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Replace the renamed keys and class names in settings of earlier releases.

    Args:
        settings: values by dotted key.
        known: keys of this release. A key is replaced only if the new key is known.
    """
    found = {}
    for key, value in settings.items():
        new = RENAMED.get(key, key)
        is_class = key.endswith("_target_") and isinstance(value, str)
        if is_class:
            value = _REPLACED.get(value) or current_name(value)
        found[new if new in known and new not in settings else key] = value
    return found


def explain_renamed(key: str, value: str, mode: str) -> str | None:
    """Return the error message for a renamed key on the command line; ``None`` for other keys."""
    new = new_name(key, mode)
    if new is None:
        return None
    modes = owners(new, mode).get("mode")
    if modes:
        return f"{key}={value}: this key is now {new}, and exists only with mode={'|'.join(modes)}"
    return f"{key}={value}: this key is now {new}: type {new}={value}"


def refuse_renamed(config: DictConfig, mode: str) -> None:
    """Raise UserError if a configuration file sets a renamed key."""
    for key in RENAMED | RENAMED_IN_MODE.get(mode, {}):
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if OmegaConf.is_dict(node) and name in node and (new := new_name(key, mode)):
            raise UserError(f"{key}: this key is now {new}; rename it in your configuration file")
