"""Configuration keys in the messages of library code, which names parameters."""

import re

from omegaconf import DictConfig, OmegaConf

_NODES = ("data", "inference")
"""Nodes whose keys are the parameters of a class: the datamodule and the Restorer."""


def with_keys(message: str, config: DictConfig) -> str:
    """Replace ``patch_size=100`` by ``data.patch_size=100``, and likewise the other parameters.

    Args:
        message: message of an error.
        config: configuration whose nodes ``data`` and ``inference`` define the keys.
    """
    for node in _NODES:
        settings = config.get(node)
        names = [str(n) for n in settings if n not in config] if OmegaConf.is_dict(settings) else []
        if names:
            pattern = rf"(?<![\w./])(?:{node}: )?({'|'.join(names)})=('?)(\w*)\2"
            message = re.sub(pattern, rf"{node}.\1=\3", message)
    return message
