"""Mean absolute error of pixels and of Fourier coefficients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mprnet_lit.training.losses.base import StageLoss, differences
from mprnet_lit.utils.checks import require_number


class FrequencyLoss(StageLoss):
    """Sum over the stages of L1 + ``frequency_weight`` * L1 of the Fourier transforms.

    The second term is the mean absolute error of the real and imaginary parts of the unnormalized
    two-dimensional discrete Fourier transforms (Cho et al., "Rethinking Coarse-to-Fine Approach in
    Single Image Deblurring", ICCV 2021, the MSFR loss at full resolution). For white errors, it
    grows with the side of the patches.

    Args:
        frequency_weight: weight of the second term, 0 or more; 0.1 in the publication for patches
            of 256 pixels.
        clamp: see :class:`StageLoss`.

    Raises:
        UserError: ``frequency_weight`` is negative or not a number.
    """

    def __init__(self, frequency_weight: float = 0.1, clamp: bool = False) -> None:
        super().__init__(clamp)
        require_number("frequency_weight", frequency_weight, low=0)
        self.frequency_weight = frequency_weight

    def terms(self, stages: Sequence[Tensor], target: Tensor) -> list[tuple[float, Tensor]]:
        """Return the errors of pixels and coefficients; see :meth:`StageLoss.terms`."""
        pixels = differences(stages, target)
        # The transform is linear, so the difference is transformed.
        spectrum = torch.view_as_real(torch.fft.fft2(pixels))
        return [(1.0, pixels.abs()), (self.frequency_weight, spectrum.abs())]
