"""Interface of the degradations and the ranges of their parameters."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError

Image = NDArray[np.float32]
Range = float | Sequence[float]
"""Bounds (low, high) of a uniform distribution, or a constant."""


class Degradation(ABC):
    """Base class of functions that turn a clean image into a degraded one.

    All randomness comes from the generator: the same state gives a bit-identical image.
    """

    margin: int = 0
    """Pixels of context that a crop needs on each side."""

    @abstractmethod
    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade an image.

        Args:
            image: sRGB image, (H, W, 3) float32 in [0, 1], H and W at least 1.
            rng: random generator.

        Returns:
            New image (H, W, 3) float32, C-contiguous.

        Raises:
            UserError: ``image`` is not a floating-point array (H, W, 3), or ``rng`` is not a
                ``numpy.random.Generator``.
        """


class RandomChoice(Degradation):
    """Applies one randomly chosen degradation to each image.

    Args:
        choices: degradations to draw from.
        weights: relative probabilities of the choices; equal by default.

    Raises:
        UserError: ``choices`` is empty, or ``weights`` differs in length, has a negative number, or
            has no positive number.
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
                "RandomChoice: choices must have at least one degradation, and weights one "
                "non-negative number for each, with a positive sum"
            )
        self.choices = tuple(choices)
        self.shares = shares / shares.sum()
        self.margin = max(choice.margin for choice in choices)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade the image by one of the choices; see :meth:`Degradation.__call__`."""
        return self.choices[rng.choice(len(self.choices), p=self.shares)](image, rng)


class Compose(Degradation):
    """Applies several degradations in sequence.

    Args:
        steps: degradations in the order of application.

    Raises:
        UserError: ``steps`` is empty.
    """

    def __init__(self, steps: Sequence[Degradation]) -> None:
        _check_all("steps", steps)
        if not steps:
            raise UserError("Compose: steps must have at least one degradation")
        self.steps = tuple(steps)
        self.margin = sum(step.margin for step in steps)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade the image by all steps; see :meth:`Degradation.__call__`."""
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
    """Convert a range to (low, high).

    Args:
        owner: degradation whose class name appears in the error message.
        name: name of the parameter.
        value: number, or pair of numbers in ascending order.
        low: smallest valid number.
        high: largest valid number.

    Raises:
        UserError: ``value`` is not a finite number or an ascending pair within [low, high].
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
