"""Objectives of a sweep: metrics of a finished training run."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from mprnet_lit.inference import Restorer
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError

_SIDE, _ROUNDS = 256, 5
DIRECTIONS = {
    "psnr": "maximize",
    "ssim": "maximize",
    "parameters": "minimize",
    "latency": "minimize",
}
"""Optimization direction by objective."""


def latency(model: MPRNet) -> float:
    """Return the median time in seconds to restore one 256x256 image on this machine."""
    restorer = Restorer(model)
    image = torch.rand(1, 3, _SIDE, _SIDE)
    seconds = []
    for number in range(_ROUNDS + 1):
        started = time.perf_counter()
        restorer.restore(image, last_only=True)  # the result is on the CPU, so this synchronizes
        if number:  # the first round is the warm-up
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def check(objectives: Sequence[str]) -> None:
    """Check the names of objectives.

    Raises:
        UserError: an objective is unknown, or ``objectives`` is empty.
    """
    unknown = [name for name in objectives if name not in DIRECTIONS]
    if unknown or not objectives:
        said = ", ".join(unknown) or "nothing"
        raise UserError(f"sweep.objectives contains {said}: choose from {', '.join(DIRECTIONS)}")


def measure(
    objectives: Sequence[str], summary: Mapping[str, float], model: MPRNet
) -> dict[str, float]:
    """Return the values of objectives.

    Args:
        objectives: names of the objectives.
        summary: metrics of the best validation.
        model: trained network.
    """
    measures: dict[str, Callable[[], float]] = {
        "parameters": lambda: float(sum(p.numel() for p in model.parameters())),
        "latency": lambda: latency(model),
    }
    return {name: measures[name]() if name in measures else summary[name] for name in objectives}
