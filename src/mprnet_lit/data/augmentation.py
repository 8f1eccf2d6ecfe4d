"""Data augmentation of image pairs with albumentations."""

from collections.abc import Sequence

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from mprnet_lit.utils.checks import require, require_generator, require_image
from mprnet_lit.utils.errors import UserError

Image = NDArray[np.float32]


class PairedAugmentation:
    """Applies albumentations transforms to an image, or identically to both images of a pair.

    Args:
        transforms: albumentations transforms in the order of application. They must not change the
            image size.

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
        """Augment a target and, if given, its degraded image.

        Args:
            target: target image, (H, W, 3) float32 in [0, 1].
            degraded: degraded image of the same shape, or ``None``.
            rng: random generator that seeds the transforms.

        Returns:
            Augmented target and degraded image, (H, W, 3) float32 each.

        Raises:
            UserError: an image is not a floating-point array (H, W, 3), or the shapes differ.
        """
        require_generator(rng)
        for image in (target,) if degraded is None else (target, degraded):
            require_image(image)
        if degraded is not None and degraded.shape != target.shape:
            raise UserError(
                f"degraded {degraded.shape} and target {target.shape} must have the same shape"
            )
        # Seed each item: by default, albumentations draws the same numbers in every worker.
        self.compose.set_random_seed(int(rng.integers(2**31)))
        images = {"image": target} | ({} if degraded is None else {"degraded": degraded})
        out = self.compose(**images)
        return out["image"], out.get("degraded")
