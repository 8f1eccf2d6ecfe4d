"""Checks of the arguments of a Restorer."""

from typing import Any, Literal, cast

import torch

from mprnet_lit.models import SIZE_MULTIPLE
from mprnet_lit.models.padding import padded_length
from mprnet_lit.utils.checks import require_number
from mprnet_lit.utils.errors import UserError


def parse_device(name: str) -> torch.device:
    """Return a device that works on this machine; ``auto`` prefers an accelerator."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device={name} can't be used here: choose auto or cpu") from error
    return device


def smallest_tile(overlap: int) -> int:
    """Return the smallest valid tile: a multiple of 8, at least 8 larger than the overlap."""
    return padded_length(overlap) + SIZE_MULTIPLE


def check_options(memory_gb: Any, tlc_crop: Any, strength: Any, **switches: Any) -> None:
    """Check the types and ranges of the arguments other than those of tiling."""
    for name, value in (("memory_gb", memory_gb), ("tlc_crop", tlc_crop)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < float("inf")):
            raise UserError(f"{name}={value} must be a positive number or None")
    require_number("strength", strength, low=0, high=1)
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise UserError(f"{name}={value} must be True or False")


def check_tiling(tile: Any, overlap: int, tile_batch: int) -> int | Literal["auto"] | None:
    """Check the arguments of tiling and return ``tile``."""
    if type(overlap) is not int or overlap < 0:
        raise UserError(f"overlap={overlap} must be an integer number of pixels, at least 0")
    if type(tile_batch) is not int or tile_batch < 1:
        raise UserError(f"tile_batch={tile_batch} must be an integer, at least 1")
    if tile is None or tile == "auto":
        return cast(Literal["auto"] | None, tile)
    least = smallest_tile(overlap)
    if type(tile) is not int or tile < least or tile % SIZE_MULTIPLE:
        raise UserError(
            f"tile={tile} must be 'auto', None, or a multiple of 8 that is at least {least} "
            f"(8 more than overlap={overlap})"
        )
    return tile
