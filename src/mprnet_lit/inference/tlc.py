"""Test-time local converter (TLC): channel attention with local instead of global averages.

Chu et al., "Improving Image Restoration by Revisiting Global Information Aggregation" (ECCV 2022,
arXiv 2112.04491). The global averages of a large image have other statistics than those of the
training patches. TLC averages over windows of about the size of the patches, with the same weights.
"""

import copy
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mprnet_lit.models import SIZE_MULTIPLE, MPRNet
from mprnet_lit.models.blocks import ChannelAttention
from mprnet_lit.utils.checks import require, require_batch, require_number
from mprnet_lit.utils.errors import UserError

WINDOW = 1.5
"""Side of the window, relative to the feature map of a training patch (384/256)."""


def window_mean(x: Tensor, height: int, width: int) -> Tensor:
    """Return the mean of each window that lies inside the image.

    The means are computed from cumulative sums, one dimension at a time. The cost does not depend
    on the window, and the rounding errors of float32 stay small.

    Args:
        x: feature map (B, C, H, W).
        height: height h of the window in pixels, limited to H.
        width: width w of the window in pixels, limited to W.

    Returns:
        Means (B, C, H-h+1, W-w+1) float32.

    Raises:
        UserError: ``x`` is not a batch (B, C, H, W), or a side of the window is below 1.
    """
    require_batch("x", x)
    require_number("height", height, low=1)
    require_number("width", width, low=1)
    x = x.float().contiguous()  # cumsum is much slower for NHWC and low precision
    for dim, length in ((3, min(width, x.shape[3])), (2, min(height, x.shape[2]))):
        if length == x.shape[dim]:
            x = x.mean(dim, keepdim=True)
            continue
        windows = x.shape[dim] - length + 1
        sums = x.cumsum(dim)
        x = sums.narrow(dim, length - 1, windows).div(length)
        x.narrow(dim, 1, windows - 1).sub_(sums.narrow(dim, 0, windows - 1), alpha=1 / length)
    return x


class LocalChannelAttention(ChannelAttention):
    """Channel attention with averages over a sliding window, replicated at the borders.

    Args:
        attention: global channel attention, whose weights are shared.
        window: height and width of the window in pixels of the feature map.
    """

    def __init__(self, attention: ChannelAttention, window: tuple[int, int]) -> None:
        nn.Module.__init__(self)
        self.reduce, self.expand = attention.reduce, attention.expand
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        """Scale (B, C, H, W) by attention weights in (0, 1), one per channel and pixel."""
        pooled = window_mean(x, *self.window).to(x.dtype)
        gate: Tensor = self.expand(F.relu(self.reduce(pooled))).sigmoid()
        missing = [x.shape[dim] - gate.shape[dim] for dim in (2, 3)]
        if gate.shape[2:] != (1, 1) and any(missing):
            (top, left), (tall, wide) = (m // 2 for m in missing), missing
            gate = F.pad(gate, (left, wide - left, top, tall - top), mode="replicate")
        return x * gate


def with_tlc(model: MPRNet, crop: int) -> MPRNet:
    """Return a copy of a network with local channel attention and shared weights.

    Args:
        model: trained network.
        crop: side of the training patches in pixels, a multiple of 8.

    Raises:
        UserError: ``model`` is not an MPRNet, or ``crop`` is not a positive multiple of 8.
    """
    require("model", model, MPRNet, "an MPRNet")
    if not isinstance(crop, int) or crop <= 0 or crop % SIZE_MULTIPLE:
        raise UserError(f"crop={crop} must be a positive multiple of 8")
    sizes = _feature_sizes(model, crop)
    shared = {id(parameter): parameter for parameter in model.parameters()}
    local = copy.deepcopy(model, shared)
    for name, (height, width) in sizes.items():
        block = local.get_submodule(name.rpartition(".")[0])
        window = int(height * WINDOW), int(width * WINDOW)
        block.attention = LocalChannelAttention(local.get_submodule(name), window)  # type: ignore[arg-type]
    return local


def _feature_sizes(model: MPRNet, crop: int) -> dict[str, tuple[int, int]]:
    """Return the (height, width) of the feature map of each channel attention for a patch."""
    with torch.device("meta"):
        model = MPRNet(**asdict(model.size))
        sizes: dict[str, tuple[int, int]] = {}
        for name, module in model.named_modules():
            if isinstance(module, ChannelAttention):
                module.register_forward_pre_hook(
                    lambda _, inputs, name=name: sizes.update({name: tuple(inputs[0].shape[2:])})
                )
        model(torch.empty(1, 3, crop, crop))
    return sizes
