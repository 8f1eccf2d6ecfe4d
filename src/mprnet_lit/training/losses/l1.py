"""Mean absolute error."""

from collections.abc import Sequence

from torch import Tensor

from mprnet_lit.training.losses.base import StageLoss, differences


class L1Loss(StageLoss):
    """Sum over the stages of the mean absolute error.

    Args:
        clamp: see :class:`StageLoss`.
    """

    def terms(self, stages: Sequence[Tensor], target: Tensor) -> list[tuple[float, Tensor]]:
        """Return the absolute error of each pixel; see :meth:`StageLoss.terms`."""
        return [(1.0, differences(stages, target).abs())]
