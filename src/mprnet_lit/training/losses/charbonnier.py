"""Charbonnier and edge losses of two batches of images (arXiv 2102.02808, equation 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mprnet_lit.utils.checks import require_batch, require_number, require_pair

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
