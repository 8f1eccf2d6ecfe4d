"""Baseline of the benchmarks compared with the golden data of MPRNet."""

import pytest
import torch
from benchmarks.baseline import PlainMPRNet, plain_loss

from mprnet_lit.weights.official import from_official
from mprnet_lit.weights.shapes import build
from tests.conftest import Golden


def test_plain_baseline_agrees_with_the_reference(golden: Golden) -> None:
    model = build(from_official(golden.weights))
    plain = PlainMPRNet(model.size)
    plain.load_state_dict(model.state_dict())
    stages = plain(golden.tensor("input"))
    for number, output in enumerate(stages, start=1):
        torch.testing.assert_close(output, golden.tensor(f"stage{number}"), rtol=0, atol=1e-5)
    for edge_weight, name in ((0.05, "loss_deblur"), (0.0, "loss_char_clamped_sum")):
        loss = plain_loss(stages, golden.tensor("target"), edge_weight).item()
        assert loss == pytest.approx(float(golden.arrays[name]), abs=1e-5)
