"""Configuration keys in error messages of library code, which contain parameter names."""

import re

from omegaconf import DictConfig, OmegaConf

_NODES = ("data", "inference")
"""Nodes whose keys are parameters of a class: the data module and the Restorer."""


def with_keys(message: str, config: DictConfig) -> str:
    """Replace parameter names by keys: ``patch_size=100`` by ``data.patch_size=100``.

    Args:
        message: error message.
        config: configuration whose nodes ``data`` and ``inference`` define the keys.
    """
    for node in _NODES:
        settings = config.get(node)
        names = [str(n) for n in settings if n not in config] if OmegaConf.is_dict(settings) else []
        if names:
            pattern = rf"(?<![\w./])(?:{node}: )?({'|'.join(names)})=('?)(\w*)\2"
            message = re.sub(pattern, rf"{node}.\1=\3", message)
    return message
