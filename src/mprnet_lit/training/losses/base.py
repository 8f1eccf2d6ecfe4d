"""Base class of the losses of all stages."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mprnet_lit.utils.checks import require, require_batch, require_pair
from mprnet_lit.utils.errors import UserError


class _ClampUnit(torch.autograd.Function):
    """Clamp to [0, 1] that drops a gradient only if its descent step leads further out."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        outward = ((x < 0) & (gradient > 0)) | ((x > 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0)


def clamp_unit(x: Tensor) -> Tensor:
    """Clamp a tensor of any shape to [0, 1] with a gradient that leads back into the range.

    The values and the gradients inside [0, 1] are those of ``torch.clamp``. Outside,
    ``torch.clamp`` has no gradient, so a stage that leaves the range everywhere would never return.
    Here, the gradient passes if a descent step moves the value towards [0, 1], and is 0 otherwise.
    """
    out: Tensor = _ClampUnit.apply(x)  # type: ignore[no-untyped-call]
    return out


class StageLoss(nn.Module, ABC):
    """Base class of losses that are summed over the stages.

    A subclass defines :meth:`terms`. The loss of a stage is the weighted sum of the means of its
    terms. The loss is computed in float32, also for predictions of lower precision.

    Args:
        clamp: whether to clamp the predictions to [0, 1] first, as for denoising (see
            :func:`clamp_unit`).
    """

    def __init__(self, clamp: bool = False) -> None:
        super().__init__()
        self.clamp = clamp

    @abstractmethod
    def terms(self, stages: Sequence[Tensor], target: Tensor) -> list[tuple[float, Tensor]]:
        """Return the terms of the loss, each with its weight.

        Args:
            stages: S predictions (B, C, H, W) float32, clamped if ``clamp`` is set.
            target: target (B, C, H, W) float32 in [0, 1].

        Returns:
            Pairs of a weight and values (S * B, ...), the images of the first stage first.
        """

    def forward(self, stages: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the scalar loss of stages and a target (B, C, H, W).

        Raises:
            UserError: see :meth:`parts`.
        """
        return _total(self._checked_terms(stages, target), len(stages))

    def parts(self, stages: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the total loss, and the detached loss of each stage, (S,).

        Raises:
            UserError: ``stages`` is empty or not a tuple or list, or the shapes of a stage and the
                target differ.
        """
        terms = self._checked_terms(stages, target)
        each = sum(weight * _means(values, len(stages)) for weight, values in terms)
        assert isinstance(each, Tensor)
        return _total(terms, len(stages)), each

    def _checked_terms(
        self, stages: Sequence[Tensor], target: Tensor
    ) -> list[tuple[float, Tensor]]:
        require("stages", stages, (tuple, list), "a tuple of tensors")
        require_batch("target", target)
        if not stages:
            raise UserError("stages must have at least one tensor")
        for stage in stages:
            require_pair("a stage", stage, "target", target)
        with torch.autocast(target.device.type, enabled=False):
            predictions = [clamp_unit(s.float()) if self.clamp else s.float() for s in stages]
            return self.terms(predictions, target.float())


def differences(stages: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return the differences of S stages and the target (B, C, H, W) as (S * B, C, H, W)."""
    return torch.cat([stage - target for stage in stages])


def _total(terms: Sequence[tuple[float, Tensor]], count: int) -> Tensor:
    """Return the loss of ``count`` stages; the mean over all stages is that of a stage."""
    total = sum(weight * values.mean() for weight, values in terms)
    assert isinstance(total, Tensor)
    return count * total


def _means(values: Tensor, count: int) -> Tensor:
    """Return the means of ``count`` equal parts of the batch, without gradients."""
    return values.detach().reshape(count, -1).mean(1)
