"""The network agrees with golden data of the reference implementation."""

import copy
from functools import partialmethod
from typing import Any

import pytest
import torch
from tests.conftest import Golden
from torch import nn

from mprnet_lit.models import SIZES, MPRNet
from mprnet_lit.models.blocks import CAB
from mprnet_lit.models.sizes import SizeName
from mprnet_lit.models.stages import ORB
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.weights.official import from_official, name_map
from mprnet_lit.weights.shapes import build


@pytest.fixture
def model(golden: Golden) -> MPRNet:
    return build(from_official(golden.weights))


def test_outputs_of_all_stages_agree_with_the_reference(model: MPRNet, golden: Golden) -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=memory_format)  # type: ignore[call-overload]
        outputs = model(golden.tensor("input").contiguous(memory_format=memory_format))
        for stage, output in enumerate(outputs, start=1):
            expected = golden.tensor(f"stage{stage}")
            torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_agree_with_the_reference(
    model: MPRNet, golden: Golden, checkpointing: bool
) -> None:
    model.set_gradient_checkpointing(checkpointing)
    loss = MultiStageLoss()(model(golden.tensor("input")), golden.tensor("target"))
    loss.backward()
    published = name_map(model.size.cabs_per_orb)
    expected = golden.group("gradnorm/")
    ours = {
        published[name]: p.grad.norm().item()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    assert ours.keys() == expected.keys()
    for name, norm in ours.items():
        assert norm == pytest.approx(float(expected[name]), rel=1e-4, abs=1e-9), name


def test_gradient_checkpointing_stores_less(model: MPRNet, golden: Golden) -> None:
    def stored(enabled: bool) -> int:
        model.set_gradient_checkpointing(enabled)
        kept: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            model(golden.tensor("input"))
        return sum(kept)

    assert stored(True) < 0.5 * stored(False)


def test_five_adam_steps_give_the_reference_losses(model: MPRNet, golden: Golden) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    loss_fn, losses = MultiStageLoss(), []
    for _ in range(5):
        loss = loss_fn(model(golden.tensor("input")), golden.tensor("target"))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == pytest.approx(golden.arrays["adam_losses"].tolist(), rel=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_match_the_network(
    model: MPRNet, golden: Golden, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    def compile(
        block: Any, **options: Any
    ) -> None:  # same tracing without code generation, which takes minutes
        nn.Module.compile(block, backend="aot_eager", **options)

    monkeypatch.setattr(CAB, "compile", compile)
    model.compile_blocks()
    model.set_gradient_checkpointing(checkpointing)
    compiled = {m._compiled_call_impl is not None for m in model.modules() if isinstance(m, CAB)}
    assert compiled == {True}
    stages = model(golden.tensor("input"))
    for stage, output in enumerate(stages, start=1):
        expected = golden.tensor(f"stage{stage}")
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    MultiStageLoss()(stages, golden.tensor("target")).backward()
    name = "orsnet.orbs.0.blocks.1.conv2.weight"
    weight = model.get_parameter(name)
    assert weight.grad is not None
    norm = golden.group("gradnorm/")[name_map(model.size.cabs_per_orb)[name]]
    assert weight.grad.norm().item() == pytest.approx(float(norm), rel=1e-4)


def test_compiled_regions_match_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients agree, without code generation and with one of the three kinds of regions."""
    torch.manual_seed(0)
    network = MPRNet(4, 2, 2, 1)
    compiled, regions = copy.deepcopy(network), []
    trace = partialmethod(nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(ORB, "compile", trace)
    for region in (nn.Sequential, CAB):
        monkeypatch.setattr(region, "compile", lambda self, dynamic: regions.append(self))
    compiled.compile_regions()
    units = compiled.encoder1, compiled.decoder1, compiled.encoder2, compiled.decoder2
    expected: list[nn.Module] = [level for u in units for level in (u.level1, u.level2, u.level3)]
    expected += [skip for u in units[1::2] for skip in (u.skip1, u.skip2)]
    assert set(regions) == set(expected) and len(regions) == 16
    assert all(orb._compiled_call_impl is not None for orb in compiled.orsnet.orbs)
    assert compiled.state_dict().keys() == network.state_dict().keys()
    x = torch.rand(1, 3, 16, 16)
    for each in (network, compiled):
        MultiStageLoss()(each(x), x.flip(0)).backward()
    for name, parameter in network.named_parameters():
        found = compiled.get_parameter(name).grad
        torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("large", 20_127_073), ("base", 15_741_025), ("small", 3_637_249), ("tiny", 427_033)],
)
def test_number_of_parameters(size: SizeName, parameters: int) -> None:
    with torch.device("meta"):
        model = MPRNet.from_size(size)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.size == SIZES[size]


@pytest.mark.parametrize("shape", [(1, 3, 12, 16), (1, 3, 16, 20), (1, 1, 16, 16), (3, 16, 16)])
def test_invalid_input_shapes_are_refused(model: MPRNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8.*" + str(shape[-1])):
        model(torch.zeros(shape))


def test_unknown_size_names_the_sizes() -> None:
    with pytest.raises(ValueError, match=r"huge.*large, base, small, tiny"):
        MPRNet.from_size("huge")  # type: ignore[arg-type]
