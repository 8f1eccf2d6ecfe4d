"""Hyperparameters of an MPRNet from the shapes of its state dict."""

from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from mprnet_lit.models import MPRNet, Size

ACTIVATION = "activation.weight"
"""Suffix of all names of the shared PReLU."""
_SHOWN = 3
"""Maximum number of parameters that an error lists per problem."""
_MAX_CABS = 64
"""Maximum number of channel attention blocks per original-resolution block; 8 in the paper."""


def size_of(state: Mapping[str, Tensor]) -> Size:
    """Return the hyperparameters that the shapes of a state dict imply.

    Raises:
        KeyError: a parameter that determines a hyperparameter is missing.
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
    """Build the network of a state dict in float32.

    Raises:
        ValueError: ``state`` is not the state dict of an MPRNet. The message lists the parameters
            that are missing, unexpected, of another shape, or not finite.
    """
    try:
        size = size_of(state)
    except KeyError as error:
        raise ValueError(f"the parameter {error.args[0]} is missing") from error
    if size.cabs_per_orb > _MAX_CABS:
        raise ValueError(f"cabs_per_orb={size.cabs_per_orb} is larger than {_MAX_CABS}")
    with torch.device("meta"):
        model = MPRNet(**asdict(size))
    expected = model.state_dict()
    faults = {
        "missing": [n for n in expected if n not in state],
        "unexpected": [n for n in state if n not in expected],
        "of another shape": [
            f"{n} ({_shape(t)}, not {_shape(expected[n])})"
            for n, t in state.items()
            if n in expected and t.shape != expected[n].shape
        ],
        "not finite": [n for n, t in state.items() if not t.isfinite().all()],
    }
    problems = [_problem(names, what) for what, names in faults.items() if names]
    if problems:
        raise ValueError("; ".join(problems))
    # Module.to_empty would import SymPy for tensors on the meta device, which takes half a second.
    layout = torch.contiguous_format
    copies = {
        n: t.to("cpu", torch.float32, copy=True, memory_format=layout) for n, t in state.items()
    }
    model.load_state_dict(copies, assign=True)
    return model


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _problem(names: list[str], what: str) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} parameter{'s are' if len(names) > 1 else ' is'} {what} ({shown})"
