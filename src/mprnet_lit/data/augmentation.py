"""Random geometry and colour, the same on both images of a pair, by albumentations."""

from collections.abc import Sequence

import albumentations as A
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


class PairedAugmentation:
    """Apply one random draw of some albumentations transforms to an image or to a pair.

    Args:
        transforms: applied in this order; they must keep the size.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform]) -> None:
        self.compose = A.Compose(list(transforms), additional_targets={"degraded": "image"})

    def __call__(
        self, target: Image, degraded: Image | None, rng: np.random.Generator
    ) -> tuple[Image, Image | None]:
        """Augment (H, W, 3) images in [0, 1]; all draws come from ``rng``."""
        # Seeded for each item: left alone, albumentations draws the same in every worker.
        self.compose.set_random_seed(int(rng.integers(2**31)))
        images = {"image": target} | ({} if degraded is None else {"degraded": degraded})
        out = self.compose(**images)
        return out["image"], out.get("degraded")
