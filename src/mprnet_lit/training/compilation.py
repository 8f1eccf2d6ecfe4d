"""Decision of ``module.compile``: whether to compile the network of a training."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from lightning import Trainer
from torch import nn

COMPILE_STEPS = 2000
"""Number of steps from which ``module.compile=auto`` compiles.

The rule assumes that compiling takes about 40 s and saves a fifth of a step of 100 ms.
"""

CompileSetting = bool | Literal["auto"]


class Decision(NamedTuple):
    """Whether the network is compiled, with text for the plan of the training."""

    compiles: bool
    text: str


def decide(setting: CompileSetting, trainer: Trainer, model: nn.Module) -> Decision:
    """Return whether to compile the network of a training.

    ``auto`` compiles on CUDA GPUs in trainings of at least :data:`COMPILE_STEPS` steps. A resumed
    training counts all of its steps, so that it makes the same decision. Sharded networks, whose
    parameters have a type of their own, are not compiled. The machine must meet the requirements of
    :func:`missing_requirement`.

    Args:
        setting: ``module.compile``.
        trainer: trainer whose strategy is set up.
        model: network of the training.
    """
    if setting != "auto":
        return Decision(setting, "compiled" if setting else "not compiled")
    if trainer.strategy.root_device.type != "cuda":
        return Decision(False, "not compiled (module.compile=auto compiles on CUDA GPUs only)")
    if not all(type(p) is nn.Parameter for p in model.parameters()):
        return Decision(False, "not compiled (module.compile=auto skips sharded networks)")
    steps = int(trainer.estimated_stepping_batches)
    if steps < COMPILE_STEPS:
        text = f"not compiled ({steps} steps; module.compile=auto needs {COMPILE_STEPS})"
        return Decision(False, text)
    if missing := missing_requirement(trainer.strategy.root_device):
        return Decision(False, f"not compiled (module.compile=auto needs {missing})")
    return Decision(True, f"compiled (module.compile=auto, {steps} steps)")


def missing_requirement(device: torch.device) -> str | None:
    """Return a requirement of ``torch.compile`` that a CUDA device or its machine does not meet."""
    requirements = {
        "Triton": importlib.util.find_spec("triton") is not None,
        "a GPU of compute capability 7.0": torch.cuda.get_device_capability(device) >= (7, 0),
        "a C compiler": os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"),
        "the headers of Python": Path(sysconfig.get_path("include"), "Python.h").exists(),
    }
    return next((name for name, met in requirements.items() if not met), None)
