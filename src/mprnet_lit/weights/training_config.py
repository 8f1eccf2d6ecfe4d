"""Training configuration in a weights file, without paths, host names and credentials."""

import re
from collections.abc import Mapping
from typing import Any

from mprnet_lit.runs.files import is_within
from mprnet_lit.utils.masking import is_secret

_KEPT = (
    *("seed", "task", "model", "module", "loss", "optimizer", "schedule", "data", "callbacks.ema"),
    *("lr_finder", "trainer.deterministic", "trainer.precision", "trainer.max_epochs"),
    *("trainer.max_steps", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"),
    *("trainer.gradient_clip_algorithm", "trainer.check_val_every_n_epoch"),
    *("trainer.limit_train_batches", "trainer.limit_val_batches"),
)
"""Keys of the settings, or groups of settings, that define a training run."""
_WORD = re.compile(r"[\w.+-]{1,100}")
"""Name of a class or an option, or a number; no path or address matches."""
_FOLDERS = re.compile(r"data\.(train|val)\.(?!_target_$|split$)")
"""Keys under ``data`` whose values name folders or files."""
_MAX_DEPTH = 16
_DROPPED = object()
"""Result of :func:`_select` for a value that is not stored."""


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a resolved configuration that define a training run.

    The result has numbers, booleans, and names of classes and options. It drops strings that may be
    paths or addresses, values of keys that look like secrets, and interpolations. The function is
    idempotent.

    Args:
        config: nested mapping of plain values.
    """
    return dict(_select(config, "", 0))


def _select(value: Any, key: str, depth: int) -> Any:
    """Return the stored part of a value; a list with a dropped item is dropped."""
    is_kept = is_within(key, _KEPT)
    if depth > _MAX_DEPTH or not (is_kept or isinstance(value, Mapping)):
        return _DROPPED
    if isinstance(value, Mapping):
        if not (is_kept or not key or any(is_within(kept, [key]) for kept in _KEPT)):
            return _DROPPED
        items = {
            str(name): _select(child, f"{key}.{name}".removeprefix("."), depth + 1)
            for name, child in value.items()
            if not is_secret(str(name))
        }
        return {name: item for name, item in items.items() if item is not _DROPPED}
    if isinstance(value, list | tuple):
        children = [_select(child, key, depth + 1) for child in value]
        return _DROPPED if any(child is _DROPPED for child in children) else children
    if isinstance(value, str):
        is_plain = _WORD.fullmatch(value) and not _FOLDERS.match(key)
    else:
        is_plain = value is None or isinstance(value, bool | int | float)
    return value if is_plain else _DROPPED
