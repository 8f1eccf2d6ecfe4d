"""Decision of ``module.compile``: whether to compile the network of a training."""

from typing import Literal, NamedTuple

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
    parameters have a type of their own, are not compiled.

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
    return Decision(True, f"compiled (module.compile=auto, {steps} steps)")
