"""RealBlur protocol: scores after alignment of the restored image with its target."""

from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mprnet_lit.metrics.quality import WINDOW, psnr_from_mse, ssim_map
from mprnet_lit.utils.checks import require_image
from mprnet_lit.utils.errors import UserError

_ITERATIONS, _FILTER = 100, 5
Image = NDArray[np.float32]


def align(restored: Image, target: Image) -> tuple[Image, NDArray[np.bool_]]:
    """Align the brightness and geometry of a restored image, as RealBlur's authors do.

    The brightness is scaled by the least-squares gain. The geometry is a homography that maximizes
    the enhanced correlation coefficient (ECC) of the gray images, with at most 100 iterations and a
    5x5 Gaussian filter. The image is warped with cubic interpolation. If ECC does not converge, the
    homography is the identity.

    Returns:
        Aligned image (H, W, 3), float32, and mask (H, W) of its overlap with the target.
    """
    require_image(restored)
    require_image(target)
    if restored.shape != target.shape:
        raise UserError(
            f"restored {restored.shape} and target {target.shape} must have the same shape"
        )
    energy = np.square(restored, dtype=np.float64).sum()
    gain = np.multiply(restored, target, dtype=np.float64).sum() / energy if energy else 1.0
    matched = restored * np.float32(gain)
    homography = _homography(matched, target)
    height, width = target.shape[:2]
    warp = partial(cv2.warpPerspective, M=homography, dsize=(width, height))
    inverse = cv2.WARP_INVERSE_MAP
    aligned = warp(matched, flags=cv2.INTER_CUBIC | inverse, borderMode=cv2.BORDER_REFLECT)
    # Pixels outside of the restored image are 0.
    overlap = warp(np.ones((height, width), np.float32), flags=cv2.INTER_NEAREST | inverse)
    return np.asarray(aligned, np.float32), np.asarray(overlap) > 0


def realblur_scores(restored: Image, target: Image) -> tuple[float, float]:
    """Return the PSNR in dB and the SSIM of images (H, W, 3) in [0, 1] over their overlap.

    Both images are set to black outside the overlap. The PSNR is over the pixels of the overlap.
    The SSIM (11x11 Gaussian windows of sigma 1.5) is the mean over the windows that are centered in
    the overlap. Centers are at least 5 pixels from the edge.
    """
    aligned, inside = align(restored, target)
    mask = torch.from_numpy(inside)
    pair = torch.from_numpy(np.stack((aligned, target))) * mask[..., None]
    x, y = pair.permute(0, 3, 1, 2)
    count = mask.sum().clamp(min=1)
    psnr = float(psnr_from_mse((x - y).double().square().sum() / (3 * count)))
    if min(mask.shape) < WINDOW:
        return psnr, float("nan")
    edge = WINDOW // 2
    similarity = ssim_map(x, y)[:, mask[edge:-edge, edge:-edge]]
    return psnr, float(similarity.double().mean())


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
