"""Mean absolute error of pixels and distance of VGG-16 features."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mprnet_lit.training.losses.base import StageLoss, differences
from mprnet_lit.utils.checks import require, require_batch, require_number
from mprnet_lit.utils.errors import UserError, install_hint

_LAYERS = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
"""Output and input channels of the convolutions up to relu2_2, by index in torchvision."""
_POOLED = 5
"""Index of the convolution after the first pooling layer."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of ImageNet, with which the network was trained."""


class PerceptualLoss(StageLoss):
    """Sum over the stages of L1 + ``perceptual_weight`` * distance of VGG-16 features.

    The distance is the mean squared difference of the features of layer relu2_2 (Johnson et al.,
    "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016, equation 2).
    The network was trained on ImageNet and stays fixed. Checkpoints do not contain it.

    Args:
        perceptual_weight: weight of the distance, 0 or more.
        vgg: file with the weights of VGG-16, as published by torchvision. ``None`` downloads the
            file (528 MB) to the cache of torch.hub, unless it is there.
        clamp: see :class:`StageLoss`.

    Raises:
        UserError: torchvision is not installed, the weights can't be downloaded or read, or
            ``perceptual_weight`` is negative or not a number.
    """

    def __init__(
        self,
        perceptual_weight: float = 0.01,
        vgg: str | Path | None = None,
        clamp: bool = False,
    ) -> None:
        super().__init__(clamp)
        require_number("perceptual_weight", perceptual_weight, low=0)
        require("vgg", vgg, (str, Path, type(None)), "the name of a file, or None")
        self.perceptual_weight = perceptual_weight
        state = _published() if vgg is None else _read(Path(vgg))
        for index, shape in _LAYERS.items():
            for kind, size in (("weight", (*shape, 3, 3)), ("bias", shape[:1])):
                tensor = state.get(f"features.{index}.{kind}")
                if not isinstance(tensor, Tensor) or tensor.shape != size:
                    raise UserError(
                        f"vgg={vgg} lacks features.{index}.{kind} {size}: set vgg to the weights "
                        "of VGG-16 from torchvision"
                    )
                self.register_buffer(f"{kind}{index}", tensor.float(), persistent=False)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def terms(self, stages: Sequence[Tensor], target: Tensor) -> list[tuple[float, Tensor]]:
        """Return the errors of pixels and of features; see :meth:`StageLoss.terms`."""
        require_batch("target", target, channels=3)
        with torch.no_grad():
            wanted = self.features(target)
        found = self.features(torch.cat(list(stages)))
        distance = (found - wanted.repeat(len(stages), 1, 1, 1)).square()
        return [(1.0, differences(stages, target).abs()), (self.perceptual_weight, distance)]

    def features(self, images: Tensor) -> Tensor:
        """Return relu2_2 of RGB images in [0, 1]: (B, 3, H, W) -> (B, 128, H // 2, W // 2)."""
        mean, deviation = (self.get_buffer(name).to(images) for name in ("mean", "deviation"))
        found = (images - mean) / deviation
        for index in _LAYERS:
            if index == _POOLED:
                found = F.max_pool2d(found, 2)
            weight, bias = (
                self.get_buffer(f"{kind}{index}").to(images) for kind in ("weight", "bias")
            )
            found = F.relu(F.conv2d(found, weight, bias, padding=1))
        return found


def _published() -> Mapping[str, Any]:
    """Return the weights of VGG-16 that torchvision publishes."""
    try:
        models: Any = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UserError(
            f"PerceptualLoss needs torchvision: {install_hint('perceptual')}, or choose another "
            "loss"
        ) from error
    try:
        state: Mapping[str, Any] = models.VGG16_Weights.IMAGENET1K_V1.get_state_dict(
            check_hash=True, map_location="cpu"
        )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the weights of VGG-16 can't be downloaded ({error}): download them on another "
            "machine, and set vgg to the file"
        ) from error
    return state


def _read(path: Path) -> Mapping[str, Any]:
    """Read a file with the weights of VGG-16."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise exceptions of many types
        raise UserError(
            f"vgg={path} can't be read ({type(error).__name__}): set vgg to the weights of VGG-16 "
            "from torchvision"
        ) from error
    require(f"the content of vgg={path}", state, Mapping, "a state dict")
    weights: Mapping[str, Any] = state
    return weights
