"""What a weights file says of its training: no path, no name of a machine, no credential."""

import re
from collections.abc import Mapping
from typing import Any

from mprnet_lit.masking import is_secret

_KEPT: tuple[str, ...] = (
    "seed",
    "deterministic",
    "task",
    "model",
    "module",
    "optimizer",
    "data",
    "callbacks.ema",
    *(
        f"trainer.{name}"
        for name in (
            "precision",
            "max_epochs",
            "max_steps",
            "accumulate_grad_batches",
            "gradient_clip_val",
            "gradient_clip_algorithm",
            "check_val_every_n_epoch",
            "limit_train_batches",
            "limit_val_batches",
        )
    ),
)
"""Keys whose values, or those below them, define a training."""
_WORD = re.compile(r"[\w.+-]{1,100}")
"""A name of a class, an option or a number; neither a path nor an address."""
_FOLDERS = re.compile(r"data\.(train|val)\.(?!_target_$|split$)")
"""Keys of the data whose texts name folders or files."""
_DEEPEST = 16


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that define a training, of a resolved configuration.

    Kept are the numbers, truth values and names of classes and options of the task, the network,
    the data, the loss, the optimizer, the schedule and the augmentation, and of the trainer those
    that decide what is computed. Texts that may be paths or addresses, everything under keys that
    look like secrets, and interpolations are dropped. Applied twice it changes nothing more.

    Args:
        config: nested settings in plain values.
    """
    return _select(config, "", 0)


def _select(node: Mapping[str, Any], prefix: str, depth: int) -> dict[str, Any]:
    found = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        below = any(key == kept or key.startswith(f"{kept}.") for kept in _KEPT)
        above = any(kept.startswith(f"{key}.") for kept in _KEPT)
        if is_secret(str(name)) or not (below or above) or depth > _DEEPEST:
            continue
        if isinstance(value, Mapping):
            found[str(name)] = _select(value, f"{key}.", depth + 1)
        elif below and _is_plain(value, key, depth):
            found[str(name)] = _listed(value, key, depth)
    return found


def _listed(value: Any, key: str, depth: int) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return [
        _select(v, f"{key}.", depth + 1) if isinstance(v, Mapping) else _listed(v, key, depth + 1)
        for v in value
    ]


def _is_plain(value: Any, key: str, depth: int) -> bool:
    """Tell whether a value is of the kinds that are kept; a list is if all in it are."""
    if isinstance(value, list | tuple):
        inside = (isinstance(v, Mapping) or _is_plain(v, key, depth + 1) for v in value)
        return depth <= _DEEPEST and all(inside)
    if isinstance(value, str):
        return bool(_WORD.fullmatch(value)) and not _FOLDERS.match(key)
    return value is None or isinstance(value, bool | int | float)
