"""Decision of module.compile=auto."""

import importlib.util
import shutil
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mprnet_lit.training.compilation import COMPILE_STEPS, decide, missing_requirement


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
def test_decision(
    setting: Any,
    device: str,
    steps: int,
    compiles: bool,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mprnet_lit.training.compilation.missing_requirement", lambda device: None)
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(strategy=strategy, estimated_stepping_batches=steps)
    network = nn.Linear(2, 2)
    decision = decide(setting, trainer, network)
    assert decision.compiles == compiles
    assert decision.text.startswith(text)
    network.weight = Sharded(torch.ones(2, 2))
    assert decide(setting, trainer, network).compiles == (setting is True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"triton": None}, "Triton"),
        ({"capability": (6, 1)}, "a GPU of compute capability 7.0"),
        ({"compilers": set()}, "a C compiler"),
        ({"compilers": {"clang"}}, None),
        ({"compilers": set(), "CC": "/opt/cc"}, None),
        ({"headers": False}, "the headers of Python"),
    ],
    ids=str,
)
def test_missing_requirement_prevents_compilation(
    changes: dict[str, Any], expected: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine: dict[str, Any] = {
        "triton": "a spec", "capability": (7, 0), "compilers": {"gcc"}, "headers": True, "CC": "",
        **changes,
    }  # fmt: skip
    if machine["headers"]:
        (tmp_path / "Python.h").touch()
    monkeypatch.setenv("CC", machine["CC"])
    for module, name, found in (
        (importlib.util, "find_spec", lambda name: machine["triton"]),
        (torch.cuda, "get_device_capability", lambda device: machine["capability"]),
        (shutil, "which", lambda name: name if name in machine["compilers"] else None),
        (sysconfig, "get_path", lambda name: str(tmp_path)),
    ):
        monkeypatch.setattr(module, name, found)
    device = torch.device("cuda")
    assert missing_requirement(device) == expected
    strategy = SimpleNamespace(root_device=device)
    trainer: Any = SimpleNamespace(strategy=strategy, estimated_stepping_batches=COMPILE_STEPS)
    decision = decide("auto", trainer, nn.Linear(2, 2))
    assert decision.compiles == (expected is None)
    assert (
        expected is None or decision.text == f"not compiled (module.compile=auto needs {expected})"
    )
