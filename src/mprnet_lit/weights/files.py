"""Reading weights files: published ``.pth`` and our ``.ckpt``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mprnet_lit.errors import UserError
from mprnet_lit.models import MPRNet, Size
from mprnet_lit.weights.official import from_official, size_of

_OURS = "model."
"""What stands before the network's parameters in a checkpoint of ours."""


def load(path: str | Path) -> MPRNet:
    """Read a network from a weights file, its hyperparameters included.

    Takes published weights (a state dict, by itself or under ``state_dict``, with or without
    ``module.``) and our training checkpoints. Only tensors and plain values are unpickled, so no
    code in the file is run.

    Raises:
        UserError: there is no such file, it is damaged, holds no MPRNet, or holds values that are
            not finite.
    """
    path = Path(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no weights file {path}: check weights") from error
    except Exception as error:  # torch.load fails in as many ways as a file can be wrong
        raise UserError(
            f"{path} is not a weights file, is damaged, or wants to run code when read: "
            "get it again from where it was published"
        ) from error
    try:
        if "mprnet_lit" in content:
            size = Size(**content["mprnet_lit"]["size"])
            state = {
                name.removeprefix(_OURS): tensor
                for name, tensor in content["state_dict"].items()
                if name.startswith(_OURS)
            }
        else:
            published = content.get("state_dict", content)
            size, state = size_of(published), from_official(published)
        model = MPRNet(**asdict(size))
        model.load_state_dict(state)
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        reason = str(error).replace("\n", " ")[:300]
        raise UserError(f"{path} does not hold the weights of an MPRNet: {reason}") from error
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise UserError(f"{path} is damaged: {name} has values that are not finite")
    return model
