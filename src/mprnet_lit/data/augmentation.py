"""Random geometry and colour, the same on both images of a pair, by albumentations."""

from collections.abc import Sequence

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.checks import require, require_generator, require_image
from mprnet_lit.utils.errors import UserError

Image = NDArray[np.float32]


class PairedAugmentation:
    """Apply one random draw of some albumentations transforms to an image or to a pair.

    Args:
        transforms: applied in this order; they must keep the size.

    Raises:
        UserError: ``transforms`` is not a list of albumentations transforms.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform]) -> None:
        require("transforms", transforms, Sequence, "a list of albumentations transforms")
        for transform in transforms:
            require(
                "each of transforms", transform, A.BasicTransform, "an albumentations transform"
            )
        self.compose = A.Compose(list(transforms), additional_targets={"degraded": "image"})

    def __call__(
        self, target: Image, degraded: Image | None, rng: np.random.Generator
    ) -> tuple[Image, Image | None]:
        """Augment (H, W, 3) images in [0, 1]; all draws come from ``rng``.

        Raises:
            UserError: an image is of another kind, or the two are of different sizes.
        """
        require_generator(rng)
        for image in (target,) if degraded is None else (target, degraded):
            require_image(image)
        if degraded is not None and degraded.shape != target.shape:
            raise UserError(f"degraded {degraded.shape} and target {target.shape} must be one size")
        # Seeded for each item: left alone, albumentations draws the same in every worker.
        self.compose.set_random_seed(int(rng.integers(2**31)))
        images = {"image": target} | ({} if degraded is None else {"degraded": degraded})
        out = self.compose(**images)
        return out["image"], out.get("degraded")
