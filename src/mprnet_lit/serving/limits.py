"""Bounds on a photo, checked by its file size and its header before any pixel is decoded."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from mprnet_lit.images.formats import IMAGE_SUFFIXES, supported_formats
from mprnet_lit.images.high_bit_depth import is_high_bit_depth
from mprnet_lit.inference.tile_size import free_bytes
from mprnet_lit.utils.errors import UserError

# Bytes a pixel at the peak of reading, restoring and writing, without what the network takes for
# a tile: measured on 9 megapixels as the growth of resident memory, with 8 bits 36 (JPEG) to 51
# (WebP without loss), with 16 bits 56 (TIFF) to 66 (PNG with alpha); as the mean of 8 views 81
# (8 bits) and 147 (16 bits).
_BYTES = {8: 52, 16: 68}
_BYTES_OF_ENSEMBLE = {8: 100, 16: 160}
_SHARE = 0.5
"""Share of the free memory that one photo may take; the network's tiles use the rest."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one photo.

    Attributes:
        megabytes: largest file, in MB.
        megapixels: largest picture, in millions of pixels.
        gigabytes: most memory, in GB; ``None``: half of what is free.
    """

    megabytes: float
    megapixels: float
    gigabytes: float | None = None


def check(path: Path, limits: Limits, self_ensemble: bool = False) -> int:
    """Return the bytes of a photo's pixels, decoded, with alpha; 0 if its header is unreadable.

    Raises:
        UserError: the file is missing, too large or not a photo, or restoring it would take too
            much memory.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        known = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{path.name} is not a photo of a known kind: choose one of {known}")
    if not path.is_file():
        raise UserError(f"{path.name} is not here any more: choose the photo again")
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        raise UserError(
            f"{path.name} has {megabytes:.1f} MB, more than the "
            f"{limits.megabytes:g} MB allowed here"
        )
    try:
        with Image.open(path, formats=supported_formats()) as image:
            pixels, bits = image.width * image.height, 16 if is_high_bit_depth(path, image) else 8
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path.name} has more than the {limits.megapixels:g} megapixels allowed here"
        ) from error
    except Exception:  # read_photo reports the reason, or can read the file
        return 0
    if pixels > limits.megapixels * 1e6:
        raise UserError(
            f"{path.name} has {pixels / 1e6:.1f} megapixels, more than the "
            f"{limits.megapixels:g} allowed here"
        )
    needed = pixels * (_BYTES_OF_ENSEMBLE if self_ensemble else _BYTES)[bits]
    bound = _SHARE * free_bytes(torch.device("cpu"))
    if limits.gigabytes is not None:
        bound = limits.gigabytes * 1e9
    if needed > bound:
        without = " without self-ensemble, or" if self_ensemble else ""
        raise UserError(
            f"{path.name} would take {needed / 1e9:.1f} GB of memory, more than the "
            f"{bound / 1e9:.1f} GB available: try{without} a smaller photo"
        )
    return pixels * 4 * bits // 8
