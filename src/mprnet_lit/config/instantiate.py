"""Instantiation of the classes that a configuration names."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.config.messages import failed_key
from mprnet_lit.utils.compat import full_key
from mprnet_lit.utils.errors import UserError


def instantiate(config: DictConfig, **kwargs: Any) -> Any:
    """Instantiate the class or call the function in ``_target_``, including nested nodes.

    Args:
        config: node with ``_target_`` and its arguments.
        kwargs: arguments that replace or extend those of ``config``.

    Raises:
        UserError: a target can't be imported, or a class raises a UserError.
        InstantiationException: a class raises another exception.
    """
    try:
        return hydra.utils.instantiate(config, _convert_="all", **kwargs)
    except InstantiationException as error:
        found_targets = _targets(OmegaConf.to_container(config, resolve=True))
        targets = {full_key(config, key): target for key, target in found_targets}
        if found := re.match(r"Error locating target '(.*?)'", str(error)):
            key = next((k for k, target in targets.items() if target == found[1]), "_target_")
            raise UserError(
                f"{key}={found[1]} can't be imported ({_origin(error)}): correct the name, or add "
                "the folder of its module to PYTHONPATH"
            ) from error
        if isinstance(error.__cause__, UserError):
            raise UserError(_with_key(str(error.__cause__), failed_key(error), targets)) from error
        raise


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each ``_target_`` in a node."""
    if not isinstance(node, dict | list):
        return
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "_target_":
            yield f"{path}{key}", str(child)
        yield from _targets(child, f"{path}{key}.")


def _origin(error: BaseException) -> str:
    """Return the type and the first line of the root cause of an exception."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _with_key(sentence: str, key: str, targets: Iterable[str]) -> str:
    """Return an error message with the key of the failed node, unless the message contains it.

    Args:
        sentence: error message of the class.
        key: key in Hydra's error message.
        targets: keys of all ``_target_`` settings.
    """
    for target in targets:
        node = target.removesuffix("._target_")
        if _without_signs(node) == _without_signs(key):
            return sentence if f"{node}." in sentence else f"{node}: {sentence}"
    return sentence


def _without_signs(key: str) -> str:
    """Return a key without dots and brackets, which OmegaConf and Hydra place differently."""
    return re.sub(r"[.\[\]]", "", key)
