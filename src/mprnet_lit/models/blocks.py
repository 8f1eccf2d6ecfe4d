"""Building blocks of MPRNet (arXiv 2102.02808, section 3 and supplementary figures).

All convolutions are bias-free. ``activation`` is the PReLU that all blocks of the network share.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mprnet_lit.models.functional import global_average


def conv(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Conv2d:
    """Return a bias-free convolution with padding that preserves height and width."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Interpolate bilinearly: (B, C, H, W) -> (B, C, height, width)."""
    # With scale_factor, the sizes in exported graphs are rounded floats, which are slow to load.
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def doubled(x: Tensor) -> Tensor:
    """Interpolate bilinearly: (B, C, H, W) -> (B, C, 2H, 2W)."""
    return resized(x, 2 * x.shape[-2], 2 * x.shape[-1])


class ChannelAttention(nn.Module):
    """Channel attention: scales each channel by a gate computed from the global averages.

    (B, C, H, W) -> (B, C, H, W). Zhang et al., RCAN, arXiv 1807.02758, section 3.3.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.reduce = conv(channels, channels // reduction, 1)
        self.expand = conv(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its per-channel gate in (0, 1)."""
        # Matrix products are faster than convolutions of a single pixel.
        hidden = F.linear(global_average(x), self.reduce.weight.flatten(1)).relu()
        gate = F.linear(hidden, self.expand.weight.flatten(1)).sigmoid()
        return x * gate[:, :, None, None]


class CAB(nn.Module):
    """Channel attention block: convolution, PReLU, convolution, attention, plus the input.

    (B, C, H, W) -> (B, C, H, W). With ``checkpointing``, training stores only the input of
    the block and recomputes the activations in the backward pass.
    """

    def __init__(self, channels: int, reduction: int, activation: nn.PReLU) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.activation = activation
        self.conv2 = conv(channels, channels)
        self.attention = ChannelAttention(channels, reduction)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        if self.checkpointing and self.training:
            out: Tensor = checkpoint(self._refine, x, use_reentrant=False)
            return out
        return self._refine(x)

    def _refine(self, x: Tensor) -> Tensor:
        residual: Tensor = self.attention(self.conv2(self.activation(self.conv1(x))))
        return residual.add_(x)


class Down(nn.Module):
    """Bilinear x0.5, then a 1x1 convolution: (B, C, H, W) -> (B, C', H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features at half the size."""
        height, width = x.shape[-2:]
        out: Tensor = self.conv(resized(x, height // 2, width // 2))
        return out


class Up(nn.Module):
    """Bilinear x2 and a 1x1 convolution: (B, C', H, W) -> (B, C, 2H, 2W).

    Both operations are linear and commute. The convolution runs first, on a quarter of the pixels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features at twice the size."""
        return doubled(self.conv(x))


class SAM(nn.Module):
    """Supervised attention module (section 3.3): a restored image, and features gated by it.

    ``forward(features: (B, C, H, W), degraded: (B, 3, H, W))`` returns the gated features
    (B, C, H, W) and the stage's restored image (B, 3, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_features = conv(channels, channels, 1)
        self.to_image = conv(channels, 3, 1)
        self.to_mask = conv(3, channels, 1)

    def forward(self, features: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        """Return (gated features, restored image)."""
        restored = self.to_image(features) + degraded
        mask = self.to_mask(restored).sigmoid()
        return self.to_features(features) * mask + features, restored
