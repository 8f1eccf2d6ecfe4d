"""Training configuration in a weights file, without paths, host names and credentials."""

import re
from collections.abc import Mapping
from typing import Any

from mprnet_lit.utils.masking import is_secret

_KEPT: tuple[str, ...] = (
    "seed",
    "task",
    "model",
    "module",
    "optimizer",
    "schedule",
    "data",
    "callbacks.ema",
    *(
        f"trainer.{name}"
        for name in (
            "deterministic",
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
"""Keys of the settings, or groups of settings, that define a training run."""
_WORD = re.compile(r"[\w.+-]{1,100}")
"""Name of a class or an option, or a number; no path or address matches."""
_FOLDERS = re.compile(r"data\.(train|val)\.(?!_target_$|split$)")
"""Keys under ``data`` whose values name folders or files."""
_DEEPEST = 16


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a resolved configuration that define a training run.

    The result has numbers, booleans, and names of classes and options. It drops strings that may be
    paths or addresses, values of keys that look like secrets, and interpolations. The function is
    idempotent.

    Args:
        config: nested mapping of plain values.
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
    """Return whether a value, or every item of a list, may be part of the result."""
    if isinstance(value, list | tuple):
        inside = (isinstance(v, Mapping) or _is_plain(v, key, depth + 1) for v in value)
        return depth <= _DEEPEST and all(inside)
    if isinstance(value, str):
        return bool(_WORD.fullmatch(value)) and not _FOLDERS.match(key)
    return value is None or isinstance(value, bool | int | float)
