"""Storage of a degraded photograph: 8-bit values and JPEG compression."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture
from torch import Tensor

from mprnet_lit.data.degradations.base import (
    BatchDegradation,
    Degradation,
    Image,
    Range,
    checked_range,
)
from mprnet_lit.data.degradations.batched import Draw
from mprnet_lit.images.reading import to_float, to_uint8
from mprnet_lit.utils.checks import require_generator, require_image
from mprnet_lit.utils.errors import UserError

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
_MCU = 16
"""Side of the largest minimum coded unit in pixels: two 8x8 blocks with 4:2:0 subsampling."""


class Quantize(BatchDegradation):
    """Clips the image to [0, 1] and rounds it to 8 bits, as a PNG file does."""

    def draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Draw:
        """Return no parameters; see :meth:`Degradation.draw`."""
        return {}

    def degrade_batch(self, clean: Tensor, draws: Draw) -> Tensor:
        """Round the images; see :meth:`Degradation.degrade_batch`."""
        return (clean.clamp(0, 1) * 255).round() / 255


class Jpeg(Degradation):
    """Encodes the image as a baseline JPEG (ITU-T T.81) and decodes it.

    The offset of the block grid is random, as in a crop of a larger JPEG. Incomplete blocks at the
    border are padded.

    Args:
        quality: quality factor of libjpeg, 1 to 100, or bounds of a uniform distribution. The
            drawn number is rounded.
        subsampling: chroma subsampling "4:4:4", "4:2:2" or "4:2:0", or a list to draw from. These
            strings need quotes in YAML.

    Raises:
        UserError: ``quality`` is outside [1, 100], or ``subsampling`` is unknown.
    """

    def __init__(
        self, quality: Range = (70, 100), subsampling: str | Sequence[str] = SUBSAMPLINGS
    ) -> None:
        self.quality = checked_range(self, "quality", quality, low=1, high=100)
        chosen = subsampling if isinstance(subsampling, Sequence) else ()
        self.subsampling = [chosen] if isinstance(chosen, str) else list(chosen)
        if not self.subsampling or not all(s in SUBSAMPLINGS for s in self.subsampling):
            raise UserError(
                f"Jpeg subsampling={subsampling} must be one or more of "
                f"{', '.join(SUBSAMPLINGS)}, in quotes in a YAML file"
            )

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Compress the image; the result is clipped to [0, 1] and rounded to 8 bits."""
        require_image(image)
        require_generator(rng)
        quality = int(np.round(rng.uniform(*self.quality)))
        subsampling = self.subsampling[rng.integers(len(self.subsampling))]
        top, left = rng.integers(_MCU, size=2)
        padded = np.pad(image, ((top, 0), (left, 0), (0, 0)), mode="symmetric")
        picture = Picture.fromarray(to_uint8(padded))
        with io.BytesIO() as file:
            picture.save(file, format="JPEG", quality=quality, subsampling=subsampling)
            with Picture.open(file) as saved:
                decoded = to_float(np.asarray(saved))
        return np.ascontiguousarray(decoded[top:, left:])
