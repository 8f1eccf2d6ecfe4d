"""Loss of the paper (arXiv 2102.02808, equation 2)."""

from collections.abc import Sequence

from torch import Tensor

from mprnet_lit.training.losses.base import StageLoss, differences
from mprnet_lit.training.losses.charbonnier import EPS, CharbonnierLoss, EdgeLoss
from mprnet_lit.utils.checks import require_number


class MultiStageLoss(StageLoss):
    """Sum over the stages of Charbonnier + ``edge_weight`` * Edge (equation 2).

    The loss is computed in float32, also for predictions of lower precision.

    Args:
        edge_weight: weight of the edge loss: 0.05 for deblurring and deraining, 0 for denoising.
        clamp: whether to clamp the predictions to [0, 1] first, as for denoising (see
            :func:`clamp_unit`).
        eps: epsilon of the Charbonnier loss.
    """

    def __init__(self, edge_weight: float = 0.05, clamp: bool = False, eps: float = EPS) -> None:
        super().__init__(clamp)
        require_number("edge_weight", edge_weight, low=0)
        self.edge_weight = edge_weight
        self.charbonnier = CharbonnierLoss(eps)
        self.edge = EdgeLoss(eps)

    def terms(self, stages: Sequence[Tensor], target: Tensor) -> list[tuple[float, Tensor]]:
        """Return the Charbonnier and the edge loss of each pixel; see :meth:`StageLoss.terms`."""
        pixels = differences(stages, target)
        terms = [(1.0, self.charbonnier.each(pixels))]
        if self.edge_weight:
            terms.append((self.edge_weight, self.edge.each(pixels)))
        return terms
