"""Subnetworks of MPRNet: encoder, decoder and original-resolution subnetwork.

``Levels`` are the three scales of a U-Net, finest first: (B, C, H, W), (B, C+U, H/2, W/2),
(B, C+2U, H/4, W/4), where C is ``width`` and U is ``unet_step``.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mprnet_lit.models.blocks import CAB, Down, Up, conv, doubled

Levels = tuple[Tensor, Tensor, Tensor]


def _two_cabs(channels: int, reduction: int, activation: nn.PReLU) -> nn.Sequential:
    return nn.Sequential(*(CAB(channels, reduction, activation) for _ in range(2)))


class Encoder(nn.Module):
    """Three levels of two CABs with ``Down`` between them (section 3.1).

    With ``fusion`` (cross-stage feature fusion, section 3.4) each level adds 1x1 convolutions of
    the previous stage's encoder and decoder levels.
    """

    def __init__(
        self, width: int, unet_step: int, reduction: int, activation: nn.PReLU, fusion: bool
    ) -> None:
        super().__init__()
        c1, c2, c3 = (width + i * unet_step for i in range(3))
        self.level1 = _two_cabs(c1, reduction, activation)
        self.level2 = _two_cabs(c2, reduction, activation)
        self.level3 = _two_cabs(c3, reduction, activation)
        self.down1 = Down(c1, c2)
        self.down2 = Down(c2, c3)
        channels = (c1, c2, c3) if fusion else ()
        self.fuse_encoder = nn.ModuleList(conv(c, c, 1) for c in channels)
        self.fuse_decoder = nn.ModuleList(conv(c, c, 1) for c in channels)

    def forward(self, x: Tensor, previous: tuple[Levels, Levels] | None = None) -> Levels:
        """Encode ``x`` (B, C, H, W). ``previous`` has the encoder and decoder levels of stage 1."""
        level1 = self._fuse(self.level1(x), 0, previous)
        level2 = self._fuse(self.level2(self.down1(level1)), 1, previous)
        level3 = self._fuse(self.level3(self.down2(level2)), 2, previous)
        return level1, level2, level3

    def _fuse(self, x: Tensor, level: int, previous: tuple[Levels, Levels] | None) -> Tensor:
        if previous is None:
            return x
        encoder, decoder = previous
        from_encoder: Tensor = self.fuse_encoder[level](encoder[level])
        from_decoder: Tensor = self.fuse_decoder[level](decoder[level])
        return from_encoder.add_(from_decoder).add_(x)


class Decoder(nn.Module):
    """Decoder of the U-Net, with a CAB on each skip connection (section 3.1)."""

    def __init__(self, width: int, unet_step: int, reduction: int, activation: nn.PReLU) -> None:
        super().__init__()
        c1, c2, c3 = (width + i * unet_step for i in range(3))
        self.level1 = _two_cabs(c1, reduction, activation)
        self.level2 = _two_cabs(c2, reduction, activation)
        self.level3 = _two_cabs(c3, reduction, activation)
        self.skip1 = CAB(c1, reduction, activation)
        self.skip2 = CAB(c2, reduction, activation)
        self.up1 = Up(c2, c1)
        self.up2 = Up(c3, c2)

    def forward(self, encoder: Levels) -> Levels:
        """Return decoder levels of the same shapes as the encoder levels, finest first."""
        level3 = self.level3(encoder[2])
        level2 = self.level2(self.up2(level3) + self.skip2(encoder[1]))
        level1 = self.level1(self.up1(level2) + self.skip1(encoder[0]))
        return level1, level2, level3


class ORB(nn.Module):
    """Original-resolution block: CABs, a convolution, plus the input (section 3.2)."""

    def __init__(self, channels: int, cabs: int, reduction: int, activation: nn.PReLU) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(CAB(channels, reduction, activation) for _ in range(cabs)))
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features: (B, C+O, H, W) -> (B, C+O, H, W)."""
        out: Tensor = self.conv(self.blocks(x))
        return out.add_(x)


class ORSNet(nn.Module):
    """Original-resolution subnetwork (section 3.2): three ORBs that fuse the levels of stage 2."""

    def __init__(
        self,
        width: int,
        unet_step: int,
        orsnet_step: int,
        cabs_per_orb: int,
        reduction: int,
        activation: nn.PReLU,
    ) -> None:
        super().__init__()
        c1, c2, c3 = (width + i * unet_step for i in range(3))
        channels = width + orsnet_step
        self.orbs = nn.ModuleList(
            ORB(channels, cabs_per_orb, reduction, activation) for _ in range(3)
        )
        self.up_encoder2, self.up_decoder2 = Up(c2, c1), Up(c2, c1)
        self.up_encoder3 = nn.Sequential(Up(c3, c2), Up(c2, c1))
        self.up_decoder3 = nn.Sequential(Up(c3, c2), Up(c2, c1))
        self.fuse_encoder = nn.ModuleList(conv(c1, channels, 1) for _ in range(3))
        self.fuse_decoder = nn.ModuleList(conv(c1, channels, 1) for _ in range(3))

    def forward(self, x: Tensor, encoder: Levels, decoder: Levels) -> Tensor:
        """Refine ``x`` with the levels of stage 2: (B, C+O, H, W) -> (B, C+O, H, W)."""
        sides = (
            (encoder, self.fuse_encoder, (nn.Identity(), self.up_encoder2, self.up_encoder3)),
            (decoder, self.fuse_decoder, (nn.Identity(), self.up_decoder2, self.up_decoder3)),
        )
        for level, orb in enumerate(self.orbs):
            from_encoder, from_decoder = (
                F.conv2d(levels[level], composed(ups[level], fuse[level]))
                for levels, fuse, ups in sides
            )
            fused = from_encoder.add_(from_decoder)
            for _ in range(level):
                fused = doubled(fused)
            x = orb(x).add_(fused)
        return x


def composed(*layers: nn.Module) -> Tensor:
    """Return the product of the 1x1 convolutions in ``layers`` as one weight (C_out, C_in, 1, 1).

    1x1 convolutions and bilinear upsampling commute. The composed convolution therefore runs before
    the upsampling, on the fewest pixels.
    """
    convolutions = (m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d))
    weight = next(convolutions).weight.flatten(1)
    for following in convolutions:
        weight = following.weight.flatten(1) @ weight
    return weight[:, :, None, None]
