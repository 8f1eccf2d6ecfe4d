"""The RealBlur protocol: scores after aligning the restoration with its target."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.metrics.quality import WINDOW, psnr_from_mse, ssim_map
from mprnet_lit.utils.checks import require_image
from mprnet_lit.utils.errors import UserError

_ITERATIONS, _FILTER = 100, 5
Image = NDArray[np.float32]


def align(restored: Image, target: Image) -> tuple[Image, NDArray[np.bool_]]:
    """Bring a restoration into the target's brightness and geometry, as RealBlur's authors do.

    Brightness: times the one gain of least squares. Geometry: the homography that maximizes the
    enhanced correlation coefficient of the gray images (ECC; at most 100 iterations, 5x5 Gaussian
    filter), then a cubic warp. Where ECC does not converge the geometry is left as it is.

    Args:
        restored: (H, W, 3) RGB, float32 in [0, 1].
        target: the same.

    Returns:
        The aligned image, (H, W, 3) float32, and (H, W), where it comes from inside the picture.
    """
    require_image(restored)
    require_image(target)
    if restored.shape != target.shape:
        raise UserError(f"restored {restored.shape} and target {target.shape} must be one size")
    energy = np.square(restored, dtype=np.float64).sum()
    gain = np.multiply(restored, target, dtype=np.float64).sum() / energy if energy else 1.0
    matched = restored * np.float32(gain)
    homography = _homography(matched, target)
    height, width = target.shape[:2]
    inverse = cv2.WARP_INVERSE_MAP
    aligned = cv2.warpPerspective(
        matched,
        homography,
        (width, height),
        flags=cv2.INTER_CUBIC | inverse,
        borderMode=cv2.BORDER_REFLECT,
    )
    overlap = cv2.warpPerspective(
        np.ones((height, width), np.float32),
        homography,
        (width, height),
        flags=cv2.INTER_NEAREST | inverse,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(aligned, np.float32), np.asarray(overlap) > 0


def realblur_scores(restored: Image, target: Image) -> tuple[float, float]:
    """Return PSNR in dB and SSIM, peak 1, of an (H, W, 3) image in [0, 1] over the overlap.

    Both images are black outside the overlap. PSNR is over its pixels; SSIM (Gaussian windows of
    sigma 1.5 and 11x11) is the mean over its window centers, at least 5 pixels from the edge.
    """
    aligned, inside = align(restored, target)
    mask = torch.from_numpy(inside)
    pair = torch.from_numpy(np.stack((aligned, target))) * mask[..., None]
    x, y = pair.permute(0, 3, 1, 2)
    count = mask.sum().clamp(min=1)
    squared_error = (x - y).double().square().sum() / (3 * count)
    if min(mask.shape) < WINDOW:
        return float(psnr_from_mse(squared_error)), float("nan")
    edge = WINDOW // 2
    centers = mask[edge:-edge, edge:-edge]
    similarity: Tensor = ssim_map(x, y)[:, centers]
    return float(psnr_from_mse(squared_error)), float(similarity.double().mean())


def _homography(matched: Image, target: Image) -> NDArray[np.float32]:
    gray_target, gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (target, matched))
    identity = np.eye(3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 0)
    try:
        _, found = cv2.findTransformECC(
            gray_target,
            gray,
            identity.copy(),
            cv2.MOTION_HOMOGRAPHY,
            criteria,
            inputMask=np.ones(gray.shape, np.uint8),
            gaussFiltSize=_FILTER,
        )
    except cv2.error:  # uniform or unrelated images
        return identity
    return np.asarray(found, dtype=np.float32)
