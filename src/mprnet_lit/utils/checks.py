"""Argument checks: types, shapes and ranges of numbers. Pixel values are not checked."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from mprnet_lit.utils.errors import UserError


def require(name: str, value: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Raise UserError unless an argument has the expected type.

    Args:
        name: name of the parameter.
        value: argument to check.
        kind: expected type, or types.
        what: description of the expected type, such as "a tensor (B, 3, H, W)".
    """
    if not isinstance(value, kind):
        raise UserError(f"{name} must be {what}, not {type(value).__name__}")


def require_function(name: str, value: Any) -> None:
    """Raise UserError unless the argument is callable."""
    require(name, value, Callable, "a function")  # type: ignore[arg-type]


def require_number(name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> None:
    """Raise UserError unless the argument is a finite number from ``low`` to ``high``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and low <= value <= high and np.isfinite(value)):
        lowest = f" from {low:g}" if low > -np.inf else ""
        highest = f" to {high:g}" if high < np.inf else ""
        raise UserError(f"{name}={value} must be a number{lowest}{highest}")


def require_batch(name: str, value: Any, channels: int | None = None) -> None:
    """Raise UserError unless the argument is a non-empty batch of images (B, C, H, W)."""
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    fits = isinstance(value, Tensor) and value.dim() == 4 and 0 not in value.shape
    if not fits or channels not in (None, value.shape[1]):
        raise UserError(f"{name} must be a tensor (B, {channels or 'C'}, H, W), not {shape}")


def require_pair(first: str, prediction: Any, second: str, target: Any) -> None:
    """Raise UserError unless two arguments are tensors of the same shape."""
    require(first, prediction, Tensor, "a tensor")
    require(second, target, Tensor, "a tensor")
    if prediction.shape != target.shape:
        raise UserError(
            f"{first} {tuple(prediction.shape)} and {second} {tuple(target.shape)} must have "
            "the same shape"
        )


def require_image(image: Any) -> None:
    """Raise UserError unless the argument is a floating-point array (H, W, 3)."""
    require("image", image, np.ndarray, "an array (H, W, 3)")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"image must be an array (H, W, 3), not {image.shape}")
    if not np.issubdtype(image.dtype, np.floating):
        raise UserError(f"image must be floating point in [0, 1], not {image.dtype}")


def require_generator(rng: Any) -> None:
    """Raise UserError unless the argument is a ``numpy.random.Generator``."""
    require("rng", rng, np.random.Generator, "a numpy.random.Generator")
