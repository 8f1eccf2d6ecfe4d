"""Network, losses and optimizer on the GPU, compared with golden data and with the CPU."""

from typing import Any

import pytest
import torch
from tests.conftest import Golden
from torch import Tensor, nn

from mprnet_lit.models import MPRNet
from mprnet_lit.models.blocks import CAB
from mprnet_lit.models.stages import ORB
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.weights.official import from_official, name_map
from mprnet_lit.weights.shapes import build


@pytest.fixture
def model(golden: Golden, device: torch.device) -> MPRNet:
    network = build(from_official(golden.weights))
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def pair(golden: Golden, device: torch.device) -> tuple[Tensor, Tensor]:
    degraded, target = (golden.tensor(name).to(device) for name in ("input", "target"))
    return degraded.contiguous(memory_format=torch.channels_last), target


def test_outputs_and_losses_agree_with_the_reference(
    model: MPRNet, pair: tuple[Tensor, Tensor], golden: Golden, tf32: bool
) -> None:
    degraded, target = pair
    with torch.no_grad():
        stages = model(degraded)
    for number, stage in enumerate(stages, start=1):
        expected = golden.tensor(f"stage{number}")
        tolerance = 5e-3 if tf32 else 2e-5
        torch.testing.assert_close(stage.cpu(), expected, rtol=0, atol=tolerance)
    losses = {
        "loss_deblur": MultiStageLoss(edge_weight=0.05),
        "loss_char_clamped_sum": MultiStageLoss(edge_weight=0.0, clamp=True),
    }
    for name, loss in losses.items():
        expected_loss = float(golden.arrays[name])
        found = loss(stages, target).item()
        assert found == pytest.approx(expected_loss, rel=1e-3 if tf32 else 2e-5), name


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_agree_with_the_reference(
    model: MPRNet, pair: tuple[Tensor, Tensor], golden: Golden, tf32: bool, checkpointing: bool
) -> None:
    model.set_gradient_checkpointing(checkpointing)
    MultiStageLoss()(model(pair[0]), pair[1]).backward()
    published = name_map(model.size.cabs_per_orb)
    expected = golden.group("gradnorm/")
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        norm = pytest.approx(
            float(expected[published[name]]), rel=5e-2 if tf32 else 1e-3, abs=1e-5 if tf32 else 1e-8
        )
        assert parameter.grad.norm().item() == norm, name


@pytest.mark.parametrize("fused", [False, True])
def test_five_adam_steps_give_the_reference_losses(
    model: MPRNet, pair: tuple[Tensor, Tensor], golden: Golden, tf32: bool, fused: bool
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, fused=fused)
    loss_of, losses = MultiStageLoss(), []
    for _ in range(5):
        loss = loss_of(model(pair[0]), pair[1])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = golden.arrays["adam_losses"].tolist()
    assert losses == pytest.approx(expected, rel=1e-2 if tf32 else 5e-4)


@pytest.mark.parametrize("method", ["compile_blocks", "compile_regions"])
def test_compiled_gradients_are_as_exact_as_eager_gradients_in_bfloat16(
    model: MPRNet, pair: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    device = pair[0].device.type
    if device == "cpu":  # without code generation and with some of the regions only: it is slow

        def compile(block: Any, **options: Any) -> None:
            nn.Module.compile(block, backend="aot_eager", **options)

        traced = CAB if method == "compile_blocks" else ORB
        for kind in (CAB, ORB, nn.Sequential):
            replacement = compile if kind is traced else lambda block, **options: None
            monkeypatch.setattr(kind, "compile", replacement)

    def gradients(mixed: bool = True) -> list[Tensor]:
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=mixed):
            stages = model(pair[0])
        MultiStageLoss()(stages, pair[1]).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    with torch.backends.cudnn.flags(allow_tf32=False):
        exact = gradients(mixed=False)
    eager = gradients()
    getattr(model, method)()
    compiled = gradients()

    def norm(tensors: list[Tensor]) -> float:
        return torch.nn.utils.get_total_norm(tensors).item()

    def error(tensors: list[Tensor]) -> float:
        return norm([a - b for a, b in zip(tensors, exact, strict=True)])

    assert 0 < error(compiled) < 1.5 * error(eager) + 0.01 * norm(exact)
    for found, expected, reference in zip(compiled, eager, exact, strict=True):
        most = 1.5 * norm([expected - reference]) + 0.1 * norm([reference]) + 1e-4 * norm(exact)
        assert norm([found - reference]) < most


def test_training_step_can_be_captured_as_a_cuda_graph(
    model: MPRNet, pair: tuple[Tensor, Tensor], cuda: torch.device
) -> None:
    loss_of = MultiStageLoss(edge_weight=0.0, clamp=True)
    degraded, target = pair[0].clone(), pair[1].clone()

    def step() -> Tensor:
        loss: Tensor = loss_of(model(degraded), target)
        loss.backward()
        return loss.detach()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model.zero_grad()
            step()
    torch.cuda.current_stream().wait_stream(stream)
    model.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()

    with torch.no_grad():
        degraded.copy_(pair[0].flip(0))
        target.copy_(pair[1].flip(0))
    graph.replay()
    loss, gradients = (
        captured.item(),
        [p.grad.clone() for p in model.parameters() if p.grad is not None],
    )
    model.zero_grad()
    assert step().item() == pytest.approx(loss, rel=1e-5)
    for found, parameter in zip(gradients, model.parameters(), strict=True):
        assert parameter.grad is not None
        scale = parameter.grad.norm().item() + 1e-6
        assert (found - parameter.grad).norm().item() < 0.02 * scale
