"""Decision of module.compile=auto."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mprnet_lit.training.compilation import COMPILE_STEPS, decide


class Sharded(nn.Parameter):
    """Stands for a DTensor."""


@pytest.mark.parametrize(
    ("setting", "device", "steps", "compiles", "text"),
    [
        ("auto", "cuda", COMPILE_STEPS, True, "compiled (module.compile=auto, 2000 steps)"),
        ("auto", "cuda", 500, False, "not compiled (500 steps; module.compile=auto needs 2000)"),
        ("auto", "cpu", 10**6, False, "not compiled (module.compile=auto compiles on CUDA GPUs"),
        (True, "cpu", 1, True, "compiled"),
        (False, "cuda", 10**6, False, "not compiled"),
    ],
)
def test_decision(setting: Any, device: str, steps: int, compiles: bool, text: str) -> None:
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(strategy=strategy, estimated_stepping_batches=steps)
    network = nn.Linear(2, 2)
    decision = decide(setting, trainer, network)
    assert decision.compiles == compiles
    assert decision.text.startswith(text)
    network.weight = Sharded(torch.ones(2, 2))
    assert decide(setting, trainer, network).compiles == (setting is True)
