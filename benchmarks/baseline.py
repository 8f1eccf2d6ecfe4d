"""Baseline of the benchmarks: a direct implementation of MPRNet without optimizations.

The baseline loops over quadrants and halves in Python, and runs eagerly in NCHW and float32. It
upsamples before the 1x1 convolution and fuses no operations. Its state dict has the same keys as
that of ``mprnet_lit.models.MPRNet``. tests/test_benchmarks.py compares both networks with the
golden data.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mprnet_lit.models import Size
from mprnet_lit.training.losses import EPS


def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)


class Attention(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = conv(channels, channels // reduction, 1)
        self.expand = conv(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(self.pool(x)))))


class CAB(nn.Module):
    def __init__(self, channels: int, reduction: int, activation: nn.PReLU) -> None:
        super().__init__()
        self.conv1, self.activation, self.conv2 = (
            conv(channels, channels),
            activation,
            conv(channels, channels),
        )
        self.attention = Attention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.attention(self.conv2(self.activation(self.conv1(x))))
        return residual + x


class Resize(nn.Module):
    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv = conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        resized: Tensor = self.conv(x)
        return resized


class SAM(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_features = conv(channels, channels, 1)
        self.to_image = conv(channels, 3, 1)
        self.to_mask = conv(3, channels, 1)

    def forward(self, features: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        image = self.to_image(features) + degraded
        return self.to_features(features) * torch.sigmoid(self.to_mask(image)) + features, image


class Encoder(nn.Module):
    def __init__(self, size: Size, activation: nn.PReLU, fusion: bool) -> None:
        super().__init__()
        c1, c2, c3 = channels = [size.width + i * size.unet_step for i in range(3)]
        self.level1, self.level2, self.level3 = (
            nn.Sequential(*(CAB(c, size.reduction, activation) for _ in range(2))) for c in channels
        )
        self.down1, self.down2 = Resize(c1, c2, 0.5), Resize(c2, c3, 0.5)
        fused = channels if fusion else []
        self.fuse_encoder = nn.ModuleList(conv(c, c, 1) for c in fused)
        self.fuse_decoder = nn.ModuleList(conv(c, c, 1) for c in fused)

    def forward(
        self, x: Tensor, encoder: Sequence[Tensor] = (), decoder: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        outs = []
        for level, block in enumerate((self.level1, self.level2, self.level3)):
            x = block(x)
            if encoder:
                x = x + self.fuse_encoder[level](encoder[level])
                x = x + self.fuse_decoder[level](decoder[level])
            outs.append(x)
            if level < 2:
                x = (self.down1, self.down2)[level](x)
        return outs


class Decoder(nn.Module):
    def __init__(self, size: Size, activation: nn.PReLU) -> None:
        super().__init__()
        c1, c2, c3 = channels = [size.width + i * size.unet_step for i in range(3)]
        self.level1, self.level2, self.level3 = (
            nn.Sequential(*(CAB(c, size.reduction, activation) for _ in range(2))) for c in channels
        )
        self.skip1, self.skip2 = (CAB(c, size.reduction, activation) for c in (c1, c2))
        self.up1, self.up2 = Resize(c2, c1, 2), Resize(c3, c2, 2)

    def forward(self, encoder: list[Tensor]) -> list[Tensor]:
        level3 = self.level3(encoder[2])
        level2 = self.level2(self.up2(level3) + self.skip2(encoder[1]))
        level1 = self.level1(self.up1(level2) + self.skip1(encoder[0]))
        return [level1, level2, level3]


class ORB(nn.Module):
    def __init__(self, channels: int, size: Size, activation: nn.PReLU) -> None:
        super().__init__()
        cabs = (CAB(channels, size.reduction, activation) for _ in range(size.cabs_per_orb))
        self.blocks = nn.Sequential(*cabs)
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv(self.blocks(x))
        return residual + x


class ORSNet(nn.Module):
    def __init__(self, size: Size, activation: nn.PReLU) -> None:
        super().__init__()
        c1, c2, c3 = (size.width + i * size.unet_step for i in range(3))
        channels = size.width + size.orsnet_step
        self.orbs = nn.ModuleList(ORB(channels, size, activation) for _ in range(3))
        self.up_encoder2, self.up_decoder2 = Resize(c2, c1, 2), Resize(c2, c1, 2)
        self.up_encoder3 = nn.Sequential(Resize(c3, c2, 2), Resize(c2, c1, 2))
        self.up_decoder3 = nn.Sequential(Resize(c3, c2, 2), Resize(c2, c1, 2))
        self.fuse_encoder = nn.ModuleList(conv(c1, channels, 1) for _ in range(3))
        self.fuse_decoder = nn.ModuleList(conv(c1, channels, 1) for _ in range(3))

    def forward(self, x: Tensor, encoder: list[Tensor], decoder: list[Tensor]) -> Tensor:
        ups = (
            (nn.Identity(), nn.Identity()),
            (self.up_encoder2, self.up_decoder2),
            (self.up_encoder3, self.up_decoder3),
        )
        for level, (up_encoder, up_decoder) in enumerate(ups):
            x = self.orbs[level](x)
            x = x + self.fuse_encoder[level](up_encoder(encoder[level]))
            x = x + self.fuse_decoder[level](up_decoder(decoder[level]))
        return x


class PlainMPRNet(nn.Module):
    """MPRNet without optimizations, with the outputs of its three stages.

    The input is (B, 3, H, W) in [0, 1], with H and W multiples of 8.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        activation = nn.PReLU()
        width = size.width
        self.shallow1, self.shallow2, self.shallow3 = (
            nn.Sequential(conv(3, width), CAB(width, size.reduction, activation)) for _ in range(3)
        )
        self.encoder1 = Encoder(size, activation, fusion=False)
        self.decoder1 = Decoder(size, activation)
        self.sam1, self.sam2 = SAM(width), SAM(width)
        self.merge1 = conv(2 * width, width)
        self.encoder2 = Encoder(size, activation, fusion=True)
        self.decoder2 = Decoder(size, activation)
        self.merge2 = conv(2 * width, width + size.orsnet_step)
        self.orsnet = ORSNet(size, activation)
        self.tail = conv(width + size.orsnet_step, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        halves = x.chunk(2, 2)
        gated, restored1, encoded1, decoded1 = [], [], [], []
        for half in halves:
            left, right = (self.encoder1(self.shallow1(q)) for q in half.chunk(2, 3))
            encoder = [torch.cat(pair, 3) for pair in zip(left, right, strict=True)]
            decoder = self.decoder1(encoder)
            features, image = self.sam1(decoder[0], half)
            gated.append(features)
            restored1.append(image)
            encoded1.append(encoder)
            decoded1.append(decoder)
        tops = []
        for half, features, encoder, decoder in zip(halves, gated, encoded1, decoded1, strict=True):
            merged = self.merge1(torch.cat((self.shallow2(half), features), 1))
            tops.append(self.encoder2(merged, encoder, decoder))
        encoder = [torch.cat(pair, 2) for pair in zip(*tops, strict=True)]
        decoder = self.decoder2(encoder)
        features, restored2 = self.sam2(decoder[0], x)
        merged = self.merge2(torch.cat((self.shallow3(x), features), 1))
        restored3 = self.tail(self.orsnet(merged, encoder, decoder)) + x
        return torch.cat(restored1, 2), restored2, restored3


def plain_loss(stages: tuple[Tensor, ...], target: Tensor, edge_weight: float = 0.05) -> Tensor:
    """Return the sum of the losses of all stages.

    If ``edge_weight`` is 0, the stages are clamped to [0, 1] and the loss has no edge term.
    """

    def charbonnier(a: Tensor, b: Tensor) -> Tensor:
        return torch.sqrt((a - b) ** 2 + EPS**2).mean()

    taps = torch.tensor([[0.05, 0.25, 0.4, 0.25, 0.05]], device=target.device)
    kernel = (taps.T @ taps).expand(3, 1, 5, 5)

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)

    def laplacian(image: Tensor) -> Tensor:
        upsampled = torch.zeros_like(image)
        upsampled[:, :, ::2, ::2] = blur(image)[:, :, ::2, ::2] * 4
        return image - blur(upsampled)

    total = target.new_zeros(())
    for stage in stages:
        if not edge_weight:
            stage = stage.clamp(0, 1)
        total = total + charbonnier(stage, target)
        if edge_weight:
            total = total + edge_weight * charbonnier(laplacian(stage), laplacian(target))
    return total
