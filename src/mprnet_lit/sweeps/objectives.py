"""What a sweep optimises: figures of a finished training."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from mprnet_lit.inference import Restorer
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError

_SIDE, _ROUNDS = 256, 5


def latency(model: MPRNet) -> float:
    """Return the median seconds of restoring one image of 256x256, on this machine's device."""
    restorer = Restorer(model)
    image = torch.rand(1, 3, _SIDE, _SIDE)
    seconds = []
    for number in range(_ROUNDS + 1):
        started = time.perf_counter()
        restorer.restore(image, last_only=True)  # gives the result back to the CPU: it is done
        if number:  # the first warms up
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def parameters(model: MPRNet) -> float:
    """Return the number of parameters."""
    return float(sum(p.numel() for p in model.parameters()))


_OF_THE_MODEL: dict[str, Callable[[MPRNet], float]] = {
    "parameters": parameters,
    "latency": latency,
}
DIRECTIONS = {
    "psnr": "maximize",
    "ssim": "maximize",
    "parameters": "minimize",
    "latency": "minimize",
}
"""What ``sweep.objectives`` may name."""


def check(objectives: Sequence[str]) -> None:
    """Refuse objectives that are not known.

    Raises:
        UserError: one is not, or there is none.
    """
    unknown = [name for name in objectives if name not in DIRECTIONS]
    if unknown or not objectives:
        said = ", ".join(unknown) or "nothing"
        raise UserError(f"sweep.objectives names {said}: choose of {', '.join(DIRECTIONS)}")


def measure(
    objectives: Sequence[str], summary: Mapping[str, float], model: MPRNet
) -> dict[str, float]:
    """Return the objectives' values: of the best validation, or of the network itself."""
    return {
        name: _OF_THE_MODEL[name](model) if name in _OF_THE_MODEL else summary[name]
        for name in objectives
    }
