"""Losses compared with the golden data of the reference implementation."""

from typing import Any

import pytest
import torch
from tests.conftest import Golden

from mprnet_lit.training.losses import CharbonnierLoss, EdgeLoss, MultiStageLoss, clamp_unit


@pytest.fixture
def stages(golden: Golden) -> list[Any]:
    return [golden.tensor(f"stage{k}") for k in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "loss"), [("charbonnier", CharbonnierLoss()), ("edge", EdgeLoss())]
)
def test_loss_of_each_stage_agrees_with_the_reference(
    golden: Golden, stages: list[Any], name: str, loss: CharbonnierLoss | EdgeLoss
) -> None:
    values = [loss(stage, golden.tensor("target")).item() for stage in stages]
    assert values == pytest.approx(golden.arrays[name].tolist(), abs=1e-5)


def test_loss_of_the_paper_recipes_agrees_with_the_reference(
    golden: Golden, stages: list[Any]
) -> None:
    target = golden.tensor("target")
    deblur = MultiStageLoss(edge_weight=0.05)(stages, target).item()
    denoise = MultiStageLoss(edge_weight=0.0, clamp=True)(stages, target).item()
    assert deblur == pytest.approx(float(golden.arrays["loss_deblur"]), abs=1e-5)
    assert denoise == pytest.approx(float(golden.arrays["loss_char_clamped_sum"]), abs=1e-5)


def test_loss_is_float32_under_mixed_precision(golden: Golden, stages: list[Any]) -> None:
    loss, target = MultiStageLoss(), golden.tensor("target")
    with torch.autocast("cpu", torch.bfloat16):
        value = loss([stage.bfloat16() for stage in stages], target)
    assert value.dtype == torch.float32
    exact = loss([stage.bfloat16().float() for stage in stages], target)
    torch.testing.assert_close(value, exact, rtol=0, atol=0)


@pytest.mark.parametrize(("edge_weight", "clamp"), [(0.05, False), (0.0, True)])
def test_shares_of_the_stages_sum_to_the_loss(
    golden: Golden, stages: list[Any], edge_weight: float, clamp: bool
) -> None:
    loss, target = MultiStageLoss(edge_weight, clamp), golden.tensor("target")
    total, parts = loss.parts(stages, target)
    assert torch.equal(total, loss(stages, target))
    assert parts.sum().item() == pytest.approx(total.item(), rel=1e-6)
    for part, stage in zip(parts, stages, strict=True):
        assert part.item() == pytest.approx(loss([stage], target).item(), rel=1e-6)


def test_clamp_equals_that_of_torch_inside_the_range() -> None:
    inside = torch.cat([torch.linspace(0, 1, 101), torch.tensor([1e-30, 1 - 6e-8])])
    weight = torch.linspace(-1, 1, len(inside))
    ours, theirs = (inside.clone().requires_grad_() for _ in range(2))
    (clamp_unit(ours) * weight).sum().backward()
    (theirs.clamp(0, 1) * weight).sum().backward()
    assert torch.equal(clamp_unit(ours), theirs.clamp(0, 1))
    assert ours.grad is not None and theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_gradient_outside_the_range_leads_back() -> None:
    x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
    gradient = torch.tensor([-1.0, 1.0, 1.0, -1.0])  # a step moves against the gradient
    clamped = clamp_unit(x)
    clamped.backward(gradient)
    assert clamped.tolist() == [0, 0, 1, 1]
    assert x.grad is not None and x.grad.tolist() == [-1, 0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outside", [-1.0, 2.0])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_stage_outside_the_range_recovers(
    golden: Golden, stages: list[torch.Tensor], stage: int, outside: float, dtype: torch.dtype
) -> None:
    loss, target = MultiStageLoss(edge_weight=0, clamp=True), golden.tensor("target")
    bias = torch.nn.Parameter(torch.full((3, 1, 1), outside))  # of the last layer of the stage
    optimizer = torch.optim.Adam([bias], lr=0.1)

    def outputs() -> list[torch.Tensor]:
        out = [s.clamp(0, 1).to(dtype) for s in stages]
        out[stage] = out[stage] * 0.1 + bias.to(dtype)
        return out

    def share_outside() -> torch.Tensor:
        return ((outputs()[stage] < 0) | (outputs()[stage] > 1)).float().mean()

    assert share_outside() == 1
    for _ in range(40):
        optimizer.zero_grad()
        loss(outputs(), target).backward()
        optimizer.step()
    assert share_outside() < 0.05
