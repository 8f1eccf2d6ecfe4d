"""Negative PSNR."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mprnet_lit.training.losses.base import StageLoss, differences
from mprnet_lit.utils.checks import require_number
from mprnet_lit.utils.errors import UserError


class PSNRLoss(StageLoss):
    """Sum over the stages of the negative PSNR in dB, averaged over the images.

    The PSNR of an image is ``-10 log10(mse + eps)`` for a peak of 1 (Chen et al., "HINet: Half
    Instance Normalization Network for Image Restoration", CVPRW 2021). The loss is
    negative for all but very poor restorations.

    Args:
        eps: value above 0 that is added to the mean squared error. 1e-8 limits the PSNR to 80 dB.
        clamp: see :class:`StageLoss`.

    Raises:
        UserError: ``eps`` is not a positive number.
    """

    def __init__(self, eps: float = 1e-8, clamp: bool = False) -> None:
        super().__init__(clamp)
        require_number("eps", eps, low=0)
        if not eps:
            raise UserError("eps=0 must be above 0")
        self.eps = eps

    def terms(self, stages: Sequence[Tensor], target: Tensor) -> list[tuple[float, Tensor]]:
        """Return the negative PSNR of each image; see :meth:`StageLoss.terms`."""
        error = differences(stages, target).square().mean((1, 2, 3))
        return [(10.0, torch.log10(error + self.eps))]
