"""PReLU and global average pooling with custom backward passes that are fast on a CPU.

On other devices, in compiled code and without gradients, the operations of torch are used. The
custom backward passes do not support double backward.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SharedPReLU(nn.PReLU):
    """A PReLU with one learned slope (He et al., arXiv 1502.01852, equation 1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return max(0, x) + slope * min(0, x), in the shape of ``x``."""
        if _trains_on_cpu(x):
            out: Tensor = _PReLU.apply(x, self.weight)  # type: ignore[no-untyped-call]
            return out
        return F.prelu(x, self.weight)


def global_average(x: Tensor) -> Tensor:
    """Return each channel's mean over height and width: (B, C, H, W) -> (B, C)."""
    if _trains_on_cpu(x):
        out: Tensor = _GlobalAverage.apply(x)  # type: ignore[no-untyped-call]
        return out
    return x.mean((2, 3))


def _trains_on_cpu(x: Tensor) -> bool:
    return x.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class _PReLU(torch.autograd.Function):
    """PReLU with a vectorized backward pass; torch's takes as long as a 3x3 convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        (gradient,) = gradients
        grad_x = torch.ops.aten.leaky_relu_backward(gradient, x, slope.to(x).item(), False)
        grad_slope = x.clamp(max=0).mul_(gradient).sum()
        return grad_x, grad_slope.to(slope).view_as(slope)


class _GlobalAverage(torch.autograd.Function):
    """Global average whose gradient keeps the channels_last memory format, unlike in torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.like = x.shape, x.is_contiguous(memory_format=torch.channels_last)
        # mean() would copy bfloat16 to float32; sum() of float16 may overflow.
        return x.mean((2, 3)) if x.dtype == torch.float16 else x.sum((2, 3)) / x[0, 0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (batch, channels, height, width), channels_last = ctx.like
        grad = (gradients[0] / (height * width))[:, :, None, None]
        layout = torch.channels_last if channels_last else torch.contiguous_format
        expanded: Tensor = grad.expand(batch, channels, height, width)
        return expanded.contiguous(memory_format=layout)
