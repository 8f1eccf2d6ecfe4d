"""Memory that a photo needs, estimated from its header."""

from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

from mprnet_lit.images.formats import supported_formats
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes
from mprnet_lit.utils.text import exceeding

# Peak memory of reading, restoring and writing an 8-bit RGB photo, in bytes per pixel. Measured for
# JPEG, PNG and TIFF (benchmarks/scaling/large_photos.py), and estimated for the other formats.
_BYTES = {"WEBP": 28, "AVIF": 28, "HEIF": 28}
_BYTES_OF_OTHERS = 12


def restoring_bytes(image: Image.Image, deep: bool) -> int:
    """Return the peak memory of restoring a photo in bytes, without the tiles of the network.

    Args:
        image: opened photo, whose pixels are not decoded.
        deep: whether the photo has more than 8 bits per channel.
    """
    per_pixel = _BYTES.get(image.format or "", _BYTES_OF_OTHERS) * (2 if deep else 1)
    if image.has_transparency_data:
        per_pixel += per_pixel // 3
    return image.width * image.height * per_pixel


def check_memory(path: Path, image: Image.Image, deep: bool) -> None:
    """Check that the memory suffices to restore a photo.

    Args:
        path: path of the photo.
        image: opened photo, whose pixels are not decoded.
        deep: whether the photo has more than 8 bits per channel.

    Raises:
        UserError: the free memory is less than the photo needs.
    """
    needed, free = restoring_bytes(image, deep), free_bytes(torch.device("cpu"))
    if needed > free:
        gigabytes, available = exceeding(needed / 1e9, free / 1e9)
        raise UserError(
            f"{path} has {image.width * image.height / 1e6:.0f} megapixels and needs {gigabytes} "
            f"GB of memory, but {available} GB are free: close other programs, or split the image"
        )


def decoded_bytes(path: Path) -> int:
    """Return the approximate size of a decoded photo from its header; 0 if it can't be read."""
    with suppress(Exception), Image.open(path, formats=supported_formats()) as image:
        return image.width * image.height * (6 if image.mode.startswith("I;16") else 3)
    return 0
