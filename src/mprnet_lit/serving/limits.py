"""Limits of an uploaded photo, which are checked before any pixel is decoded."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from mprnet_lit.images.formats import IMAGE_SUFFIXES, supported_formats
from mprnet_lit.images.high_bit_depth import is_high_bit_depth
from mprnet_lit.images.memory import restoring_bytes
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes
from mprnet_lit.utils.text import exceeding

_SHARE = 0.5
"""Share of the free memory that photos may use; the tiles of the network use the rest."""


@dataclass(frozen=True)
class Limits:
    """Limits of one photo.

    Attributes:
        megabytes: maximum file size in MB.
        megapixels: maximum number of pixels in millions.
        gigabytes: maximum memory in GB; ``None`` for half of the free memory.
    """

    megabytes: float
    megapixels: float
    gigabytes: float | None = None

    def available(self) -> float:
        """Return the maximum memory in bytes of all photos in memory."""
        if self.gigabytes is not None:
            return self.gigabytes * 1e9
        return _SHARE * free_bytes(torch.device("cpu"))


@dataclass(frozen=True)
class Demand:
    """Memory for a photo, estimated from its header.

    Attributes:
        area: number of pixels; 0 if the header is unreadable.
        pixels: size in bytes of the decoded pixels with alpha.
        peak: maximum memory in bytes during the restoration.
    """

    area: int = 0
    pixels: int = 0
    peak: float = 0.0


def check_photo(path: Path, limits: Limits) -> Demand:
    """Check the file size and the header of a photo, and return its demand for memory.

    Args:
        path: file of the photo.
        limits: limits of the photo.

    Raises:
        UserError: the file is missing, exceeds a limit, or is not a photo.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{path.name} is not a supported image file: choose one of {known}")
    if not path.is_file():
        raise UserError(f"{path.name} has expired: choose the photo again")
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        size, limit = exceeding(megabytes, limits.megabytes)
        raise UserError(f"{path.name} has {size} MB, but the limit of this page is {limit} MB")
    try:
        with Image.open(path, formats=supported_formats()) as image:
            pixels, deep = image.width * image.height, is_high_bit_depth(path, image)
            needed = restoring_bytes(image, deep)
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path.name} has too many pixels: the limit of this page is {limits.megapixels:g} "
            "megapixels"
        ) from error
    except Exception:  # read_photo reads the file or reports the reason
        return Demand()
    if pixels > limits.megapixels * 1e6:
        size, limit = exceeding(pixels / 1e6, limits.megapixels)
        raise UserError(
            f"{path.name} has {size} megapixels, but the limit of this page is {limit} megapixels"
        )
    return Demand(pixels, pixels * (8 if deep else 4), needed)


def check_memory(path: Path, demand: Demand, limits: Limits) -> None:
    """Check that the memory for a photo is available.

    Raises:
        UserError: the photo needs more memory.
    """
    bound = limits.available()
    if demand.peak > bound:
        needed, available = exceeding(demand.peak / 1e9, bound / 1e9)
        raise UserError(
            f"{path.name} needs {needed} GB of memory, but {available} GB are available: choose a "
            "smaller photo"
        )
