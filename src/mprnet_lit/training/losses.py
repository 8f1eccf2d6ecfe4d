"""Training losses of MPRNet (arXiv 2102.02808, equations 2 and 3)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mprnet_lit.utils.checks import require, require_batch, require_number, require_pair
from mprnet_lit.utils.errors import UserError

EPS = 1e-3
"""Epsilon of the Charbonnier loss in the paper, for images in [0, 1]."""


class CharbonnierLoss(nn.Module):
    """Mean of sqrt((prediction - target)^2 + eps^2) over all pixels (Charbonnier et al., 1994)."""

    def __init__(self, eps: float = EPS) -> None:
        super().__init__()
        require_number("eps", eps, low=0)
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of two tensors of the same shape.

        Raises:
            UserError: the shapes differ.
        """
        require_pair("prediction", prediction, "target", target)
        return self.of(prediction - target)

    def of(self, difference: Tensor) -> Tensor:
        """Return the loss of a difference."""
        return self.each(difference).mean()

    def each(self, difference: Tensor) -> Tensor:
        """Return the loss of each pixel of a difference."""
        return torch.sqrt(difference.square() + self.eps**2)


class EdgeLoss(nn.Module):
    """Charbonnier loss between the Laplacians of two images (equation 3).

    The Laplacian is the image minus its reconstruction from a Gaussian pyramid of one level, with
    the 5x5 kernel of taps [.05 .25 .4 .25 .05] and replicated borders. The Laplacian is linear, so
    the loss is computed on the difference of the images.
    """

    def __init__(self, eps: float = EPS) -> None:
        super().__init__()
        self.charbonnier = CharbonnierLoss(eps)
        taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05])
        self.kernel: Tensor
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of two batches (B, C, H, W).

        Raises:
            UserError: the shapes differ, or are not (B, C, H, W).
        """
        require_pair("prediction", prediction, "target", target)
        require_batch("target", target)
        return self.of(prediction - target)

    def of(self, difference: Tensor) -> Tensor:
        """Return the loss of a difference (B, C, H, W)."""
        return self.each(difference).mean()

    def each(self, difference: Tensor) -> Tensor:
        """Return the loss of each pixel of a difference (B, C, H, W)."""
        kept = torch.zeros_like(difference)
        kept[..., ::2, ::2] = 4 * self._blur(difference, stride=2)
        return self.charbonnier.each(difference - self._blur(kept))

    def _blur(self, image: Tensor, stride: int = 1) -> Tensor:
        channels = image.shape[1]
        kernel = self.kernel.to(image).expand(channels, 1, 5, 5)
        padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
        return F.conv2d(padded, kernel, stride=stride, groups=channels)


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


class MultiStageLoss(nn.Module):
    """Sum over the stages of Charbonnier + ``edge_weight`` * Edge (equation 2).

    The loss is computed in float32, also for predictions of lower precision.

    Args:
        edge_weight: weight of the edge loss: 0.05 for deblurring and deraining, 0 for denoising.
        clamp: whether to clamp the predictions to [0, 1] first, as for denoising (see
            :func:`clamp_unit`).
        eps: epsilon of the Charbonnier loss.
    """

    def __init__(self, edge_weight: float = 0.05, clamp: bool = False, eps: float = EPS) -> None:
        super().__init__()
        require_number("edge_weight", edge_weight, low=0)
        self.edge_weight = edge_weight
        self.clamp = clamp
        self.charbonnier = CharbonnierLoss(eps)
        self.edge = EdgeLoss(eps)

    def forward(self, stages: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the scalar loss of stages and a target (B, C, H, W).

        Raises:
            UserError: see :meth:`parts`.
        """
        return self._total(self._pixels(stages, target), len(stages))

    def parts(self, stages: Sequence[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the total loss, and the detached loss of each stage, (S,).

        Raises:
            UserError: ``stages`` is empty or not a tuple or list, or the shapes of a stage and the
                target differ.
        """
        pixels = self._pixels(stages, target)
        each = _means(pixels[0], len(stages))
        if self.edge_weight:
            each = each + self.edge_weight * _means(pixels[1], len(stages))
        return self._total(pixels, len(stages)), each

    def _total(self, pixels: Sequence[Tensor], count: int) -> Tensor:
        """Return the loss for the loss of each pixel; the mean of all stages is that of a stage."""
        loss = pixels[0].mean()
        if self.edge_weight:
            loss = loss + self.edge_weight * pixels[1].mean()
        return count * loss

    def _pixels(self, stages: Sequence[Tensor], target: Tensor) -> list[Tensor]:
        """Return the Charbonnier and edge loss of each pixel, the stages on the batch axis."""
        require("stages", stages, (tuple, list), "a tuple of tensors")
        require_batch("target", target)
        if not stages:
            raise UserError("stages must have at least one tensor")
        for stage in stages:
            require_pair("a stage", stage, "target", target)
        target = target.float()
        with torch.autocast(target.device.type, enabled=False):
            predictions = (clamp_unit(s.float()) if self.clamp else s.float() for s in stages)
            differences = torch.cat([prediction - target for prediction in predictions])
            pixels = [self.charbonnier.each(differences)]
            if self.edge_weight:
                pixels.append(self.edge.each(differences))
            return pixels


def _means(pixels: Tensor, count: int) -> Tensor:
    """Return the means of ``count`` equal parts of the batch, without gradients."""
    return pixels.detach().reshape(count, -1).mean(1)
