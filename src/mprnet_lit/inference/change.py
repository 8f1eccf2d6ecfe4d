"""Amount by which a restoration changes an image, compared with the training."""

import cv2
import numpy as np

from mprnet_lit.images.reading import Pixels


def mean_change(before: Pixels, after: Pixels) -> float:
    """Return the mean absolute difference between two images of equal shape and type.

    Args:
        before: image (H, W, 3), uint8 or uint16.
        after: restored image.

    Returns:
        Mean over the pixels and channels, in levels of 255 for both bit depths.
    """
    total = cv2.norm(before, after, cv2.NORM_L1)
    return total / before.size * 255 / float(np.iinfo(before.dtype).max)


def change_text(change: float) -> str:
    """Return the words for a change in levels of 255."""
    return f"changed by {change:.1f} of 255 levels on average"


def excess_text(change: float, limit: float | None) -> str:
    """Return the words for a change above the limit of the weights; empty for other changes.

    Args:
        change: mean change of an image in levels of 255.
        limit: ``Info.change`` of the weights; ``None`` if unknown.
    """
    if limit is None or change <= limit:
        return ""
    return f"more than 99% of the training patches needed ({limit:.1f})"
