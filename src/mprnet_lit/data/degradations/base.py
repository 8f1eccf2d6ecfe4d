"""Interface of the degradations and the ranges of their parameters."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate, default_convert

from mprnet_lit.data.degradations.batched import Draw, per_image, trim
from mprnet_lit.utils.checks import require, require_generator, require_image
from mprnet_lit.utils.errors import UserError

Image = NDArray[np.float32]
Range = float | Sequence[float]
"""Bounds (low, high) of a uniform distribution, or a constant."""


class Degradation(ABC):
    """Base class of functions that turn a clean image into a degraded one.

    All randomness comes from the generator: the same state gives a bit-identical image. A subclass
    that also defines :meth:`draw` and :meth:`degrade_batch` can run on the training device.
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

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the parameters of an image for :meth:`degrade_batch`.

        Args:
            shape: height and width of the image, including the margin.
            rng: random generator.

        Raises:
            UserError: the degradation can only run on the CPU.
        """
        raise self._no_batches()

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Degrade a batch of images, with the same distribution as single images.

        Args:
            clean: sRGB images, (B, 3, H, W) float32 in [0, 1], on any device.
            draws: result of :meth:`draw` for each image, stacked to tensors on the same device.

        Returns:
            New images without the margin, (B, 3, H - 2 * margin, W - 2 * margin) float32.

        Raises:
            UserError: the degradation can only run on the CPU.
        """
        raise self._no_batches()

    def cpu_only(self) -> list[str]:
        """Return the names of the classes that prevent a use on the training device.

        A subclass that overrides only ``__call__`` is one of them, because the inherited
        ``degrade_batch`` would differ from it.
        """
        for cls in type(self).__mro__:
            if "degrade_batch" in vars(cls) and cls is not Degradation:
                return []
            if "__call__" in vars(cls):
                break
        return [type(self).__name__]

    def for_validation(self) -> "Degradation":
        """Return the degradation of validation images."""
        return self

    def _no_batches(self) -> UserError:
        name = type(self).__name__
        return UserError(f"{name} can only run on the CPU: it does not define draw, degrade_batch")


class BatchDegradation(Degradation):
    """Base class of degradations that treat a single image as a batch of one image.

    A subclass defines only :meth:`draw` and :meth:`degrade_batch`, and has no margin.
    """

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Degrade an image; see :meth:`Degradation.__call__`."""
        require_image(image)
        require_generator(rng)
        draws = default_collate([default_convert(self.draw(image.shape[:2], rng))])
        clean = torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32)[None]
        degraded = self.degrade_batch(clean, draws)[0]
        return np.ascontiguousarray(degraded.numpy().transpose(1, 2, 0))


class Nothing(BatchDegradation):
    """Leaves the image as it is, for a share of clean training images in a :class:`RandomChoice`.

    Validation does not draw it, because PSNR is unbounded for equal images.
    """

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Return no parameters; see :meth:`Degradation.draw`."""
        return {}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Copy the images; see :meth:`Degradation.degrade_batch`."""
        return clean.clone()


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

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the choice and the parameters of all choices; see :meth:`Degradation.draw`."""
        chosen = np.int64(rng.choice(len(self.choices), p=self.shares))
        draws = {
            str(k): choice.draw(_trimmed(shape, self.margin - choice.margin), rng)
            for k, choice in enumerate(self.choices)
        }
        return {"chosen": chosen, **draws}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Apply every choice to all images, and select; see :meth:`Degradation.degrade_batch`."""
        out = trim(clean, self.margin)
        for k, choice in enumerate(self.choices):
            image = choice.degrade_batch(trim(clean, self.margin - choice.margin), draws[str(k)])
            out = torch.where(per_image(draws["chosen"] == k), image, out)
        return out

    def cpu_only(self) -> list[str]:
        """Return the names of the choices without an implementation for the device."""
        return super().cpu_only() or _cpu_only(self.choices)

    def for_validation(self) -> Degradation:
        """Return the degradation without the choices :class:`Nothing`, if others remain."""
        pairs = zip(self.choices, self.shares, strict=True)
        kept = [pair for pair in pairs if not isinstance(pair[0], Nothing)]
        if len(kept) == len(self.choices) or not sum(share for _, share in kept):
            return self
        return RandomChoice(*zip(*kept, strict=True))


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

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Draw the parameters of all steps; see :meth:`Degradation.draw`."""
        draws: Draw = {}
        for k, step in enumerate(self.steps):
            draws[str(k)] = step.draw(shape, rng)
            shape = _trimmed(shape, step.margin)
        return draws

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Degrade the images by all steps; see :meth:`Degradation.degrade_batch`."""
        for k, step in enumerate(self.steps):
            clean = step.degrade_batch(clean, draws[str(k)])
        return clean

    def cpu_only(self) -> list[str]:
        """Return the names of the steps without an implementation for the device."""
        return super().cpu_only() or _cpu_only(self.steps)


def _check_all(name: str, degradations: Sequence[Degradation]) -> None:
    require(name, degradations, (list, tuple), "a list of degradations")
    for degradation in degradations:
        require(f"each of {name}", degradation, Degradation, "a degradation")


def _cpu_only(degradations: Sequence[Degradation]) -> list[str]:
    return list(dict.fromkeys(name for each in degradations for name in each.cpu_only()))


def _trimmed(shape: tuple[int, int], margin: int) -> tuple[int, int]:
    return shape[0] - 2 * margin, shape[1] - 2 * margin


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
