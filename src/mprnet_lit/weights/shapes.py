"""What the shapes of a state dict tell: the hyperparameters, and whether it is an MPRNet's."""

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from mprnet_lit.models import MPRNet, Size

ACTIVATION = "activation.weight"
"""How the one shared PReLU ends all of its names."""
_SHOWN = 3
_MOST_CABS = 64
"""In each block of the third stage; the published networks have 8. Building takes time for each."""


def size_of(state: Mapping[str, Tensor]) -> Size:
    """Read the hyperparameters off the shapes of weights under our names.

    Raises:
        KeyError: a weight that fixes a hyperparameter is missing.
    """
    width = state["shallow1.0.weight"].shape[0]
    return Size(
        width=width,
        unet_step=state["encoder1.down1.conv.weight"].shape[0] - width,
        orsnet_step=state["tail.weight"].shape[1] - width,
        cabs_per_orb=len({n.split(".")[4] for n in state if n.startswith("orsnet.orbs.0.blocks.")}),
        reduction=width // state["shallow1.1.attention.reduce.weight"].shape[0],
    )


def build(state: Mapping[str, Tensor]) -> MPRNet:
    """Build the network whose weights these are, in float32.

    Raises:
        ValueError: they are not those of an MPRNet; names the weights that are missing, not known,
            of another shape or not finite.
    """
    try:
        size = size_of(state)
    except KeyError as error:
        raise ValueError(f"there is no {error.args[0]}") from error
    if size.cabs_per_orb > _MOST_CABS:
        raise ValueError(f"{size.cabs_per_orb} blocks of channel attention in a row are too many")
    with torch.device("meta"):
        model = MPRNet(**asdict(size))
    expected = model.state_dict()
    faults = {
        "missing": [n for n in expected if n not in state],
        "not known": [n for n in state if n not in expected],
        "of another shape": [
            f"{n} ({_shape(t)}, not {_shape(expected[n])})"
            for n, t in state.items()
            if n in expected and t.shape != expected[n].shape
        ],
        "not finite": [n for n, t in state.items() if not t.isfinite().all()],
    }
    if any(faults.values()):
        raise ValueError("; ".join(_count(names, what) for what, names in faults.items() if names))
    model = model.to_empty(device="cpu")
    model.load_state_dict(state)
    return model


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _count(names: list[str], what: str) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} weight{'s are' if len(names) > 1 else ' is'} {what} ({shown})"
