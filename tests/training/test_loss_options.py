"""Losses of the config group ``loss``, compared with NumPy and with torchvision's layer order."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tests.config.test_config import compose
from torch import nn

from mprnet_lit.config.groups import CONFIG_DIR, groups
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.models import MPRNet
from mprnet_lit.training.build import build_module
from mprnet_lit.training.losses import (
    FrequencyLoss,
    L1Loss,
    MultiStageLoss,
    PerceptualLoss,
    PSNRLoss,
    StageLoss,
)
from mprnet_lit.utils.errors import UserError


@pytest.fixture(scope="module")
def stages() -> list[torch.Tensor]:
    return [torch.rand(2, 3, 16, 12, generator=seeded(k)) * 1.4 - 0.2 for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def target() -> torch.Tensor:
    return torch.rand(2, 3, 16, 12, generator=seeded(0))


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of a VGG-16 with random weights, under torchvision's names."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save({f"features.{k}": v for k, v in layers().state_dict().items()}, path)
    return path


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layers() -> nn.Sequential:
    """Configuration D of Simonyan and Zisserman (2015) up to the second ReLU of block 2."""
    block1 = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)]
    block2 = [nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1)]
    return nn.Sequential(*block1, nn.ReLU(), nn.MaxPool2d(2), *block2, nn.ReLU())


def errors(stages: list[torch.Tensor], target: torch.Tensor) -> list[Any]:
    return [(stage - target).double().numpy() for stage in stages]


def test_losses_agree_with_numpy(stages: list[torch.Tensor], target: torch.Tensor) -> None:
    differences = [(stage - target).double().numpy() for stage in stages]
    l1 = [np.abs(d).mean() for d in differences]
    negative_psnr = [np.mean([10 * np.log10(np.mean(i**2)) for i in d]) for d in differences]
    spectra = [np.fft.fft2(d) for d in differences]
    frequency = [(np.abs(s.real).mean() + np.abs(s.imag).mean()) / 2 for s in spectra]
    both = [a + 0.1 * b for a, b in zip(l1, frequency, strict=True)]
    for loss, expected in (L1Loss(), l1), (PSNRLoss(), negative_psnr), (FrequencyLoss(), both):
        total, parts = loss.parts(stages, target)
        assert parts.tolist() == pytest.approx(expected, rel=1e-4)
        assert total.item() == pytest.approx(sum(expected), rel=1e-4)
        assert torch.equal(total, loss(stages, target))


def test_perceptual_loss_is_that_of_the_layers(
    stages: list[torch.Tensor], target: torch.Tensor, vgg: Path
) -> None:
    network = layers()
    network.load_state_dict({k[9:]: v for k, v in torch.load(vgg, weights_only=True).items()})
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    loss = PerceptualLoss(perceptual_weight=0.5, vgg=vgg)
    with torch.no_grad():
        features = [network((image - mean) / deviation) for image in (*stages, target)]
        expected = [
            (stage - target).abs().mean() + 0.5 * (found - features[-1]).square().mean()
            for stage, found in zip(stages, features[:-1], strict=True)
        ]
        torch.testing.assert_close(loss.parts(stages, target)[1], torch.stack(expected))
    assert loss.state_dict() == {} and not [*loss.parameters()]  # not in checkpoints, not trained


@pytest.mark.parametrize("name", sorted(groups()["loss"]))
def test_every_loss_trains_from_its_file(
    name: str, stages: list[torch.Tensor], target: torch.Tensor, vgg: Path
) -> None:
    options = {"vgg": str(vgg)} if name == "perceptual" else {}
    node = OmegaConf.create(OmegaConf.load(CONFIG_DIR / "loss" / f"{name}.yaml"))
    assert isinstance(node, DictConfig)
    loss = instantiate(node, **options)
    assert isinstance(loss, StageLoss)
    outputs = [stage.bfloat16().requires_grad_() for stage in stages]
    value = loss(outputs, target)
    value.backward()
    assert value.dtype == torch.float32
    pairs = [(output, output.grad) for output in outputs]
    assert all(grad is not None and grad.isfinite().all() and grad.any() for _, grad in pairs)
    moved = [
        (output - 1e-2 * (grad / grad.norm())).detach()
        for output, grad in pairs
        if grad is not None
    ]
    assert loss(moved, target) < value  # a step against the gradient


def test_loss_of_the_task_is_the_default() -> None:
    register_resolvers()
    config = compose("trainer=cpu", "task=deblur")
    default = build_module(config, MPRNet(4, 0, 0, 1)).loss
    assert isinstance(default, MultiStageLoss) and default.edge_weight == 0.05
    config = compose("trainer=cpu", "task=deblur", "loss=frequency", "loss.frequency_weight=0.3")
    chosen = build_module(config, MPRNet(4, 0, 0, 1)).loss
    assert isinstance(chosen, FrequencyLoss) and chosen.frequency_weight == 0.3


def test_perceptual_loss_is_refused_in_one_sentence(
    tmp_path: Path, vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"vgg=\S+none\.pth can't be read \(FileNotFoundError\): set"
    ):
        PerceptualLoss(vgg=tmp_path / "none.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"lacks features\.0\.weight \(64, 3, 3, 3\): set vgg to"):
        PerceptualLoss(vgg=tmp_path / "other.pth")

    class Weights:
        """Stand-in for torchvision.models, so that the test needs no package and no network."""

        state: Any = OSError("no network")
        asked: Any = None

        def get_state_dict(self, **options: Any) -> Any:
            self.asked = options
            if isinstance(self.state, Exception):
                raise self.state
            return self.state

    models = Weights()
    module = SimpleNamespace(VGG16_Weights=SimpleNamespace(IMAGENET1K_V1=models))
    monkeypatch.setitem(sys.modules, "torchvision", module)
    monkeypatch.setitem(sys.modules, "torchvision.models", module)
    with pytest.raises(UserError, match=r"can't be downloaded \(no network\): download them on"):
        PerceptualLoss()
    models.state = torch.load(vgg, weights_only=True)
    assert torch.equal(PerceptualLoss().get_buffer("bias7"), models.state["features.7.bias"])
    assert models.asked["check_hash"] is True
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(
        UserError, match=r"needs torchvision: pip install .*perceptual\]', or choose"
    ):
        PerceptualLoss()
