"""What all degradations share: the interface and the ranges that they draw from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError

Image = NDArray[np.float32]
Range = float | Sequence[float]
"""A (low, high) pair to draw from, or one number."""


class Degradation(ABC):
    """Makes a degraded image out of a clean one.

    All randomness comes from the generator: the same state gives the same image, bit for bit.
    """

    margin: int = 0
    """Pixels of surroundings wanted on each side of what is kept."""

    @abstractmethod
    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade an sRGB image (H, W, 3) float32 in [0, 1], H and W from 1 up.

        Returns:
            a new image (H, W, 3) float32, C-contiguous.
        """


class RandomChoice(Degradation):
    """Applies one of several degradations, picked for each image.

    Args:
        choices: to pick from.
        weights: relative frequencies; equal by default.

    Raises:
        UserError: no choices, or weights that don't fit them.
    """

    def __init__(
        self, choices: Sequence[Degradation], weights: Sequence[float] | None = None
    ) -> None:
        _check_all("choices", choices)
        shares = np.ones(len(choices)) if weights is None else np.asarray(weights, dtype=float)
        if (
            not choices
            or shares.shape != (len(choices),)
            or not (shares.min() >= 0 and 0 < shares.sum() < np.inf)
        ):
            raise UserError(
                "RandomChoice needs choices, and as many weights, none negative, not all zero"
            )
        self.choices = tuple(choices)
        self.shares = shares / shares.sum()
        self.margin = max(choice.margin for choice in choices)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade the image by one of the choices."""
        return self.choices[rng.choice(len(self.choices), p=self.shares)](image, rng)


class Compose(Degradation):
    """Applies one degradation after another.

    Args:
        steps: in their order.

    Raises:
        UserError: there are no steps.
    """

    def __init__(self, steps: Sequence[Degradation]) -> None:
        _check_all("steps", steps)
        if not steps:
            raise UserError("Compose needs steps")
        self.steps = tuple(steps)
        self.margin = sum(step.margin for step in steps)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade the image by each of the steps."""
        for step in self.steps:
            image = step(image, rng)
        return image


def _check_all(name: str, degradations: Sequence[Degradation]) -> None:
    require(name, degradations, (list, tuple), "a list of degradations")
    for degradation in degradations:
        require(f"each of {name}", degradation, Degradation, "a degradation")


def checked_range(
    owner: Degradation, name: str, value: Range, low: float = 0.0, high: float = np.inf
) -> tuple[float, float]:
    """Return a range as (low, high).

    Raises:
        UserError: it is not one finite number, or two in order, within [low, high].
    """
    try:
        numbers = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.ndim == 0:
        numbers = np.repeat(numbers, 2)
    if (
        numbers.shape != (2,)
        or not np.isfinite(numbers).all()
        or not low <= numbers[0] <= numbers[1] <= high
    ):
        within = f"from {low:g}" + (f" to {high:g}" if np.isfinite(high) else "")
        raise UserError(
            f"{type(owner).__name__} {name}={value} must be a number or a pair [low, high] {within}"
        )
    return float(numbers[0]), float(numbers[1])
