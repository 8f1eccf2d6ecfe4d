"""Run ``mode=restore`` with a network that returns its input, which leaves the work around it."""

from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hydra
import torch
from benchmarks.scaling.processes import Used, counted
from torch import Tensor

from mprnet_lit import Restorer
from mprnet_lit.cli import restore
from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.resolvers import register_resolvers

_NEWER = find_spec("mprnet_lit.cli.restorer")  # an earlier version has the function in cli.common
_builder = import_module(_NEWER.name if _NEWER else "mprnet_lit.cli.common")


def restore_unchanged(source: Path, output: Path, *overrides: str) -> Used:
    """Restore a file or folder; return what it took after the network was loaded.

    PyTorch uses one thread. Call this function in a new process.
    """
    register_resolvers()
    torch.set_num_threads(1)
    arguments = [f"input={source}", f"output={output}", "task=denoise", "inference.device=cpu"]
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("restore", [*arguments, *overrides])
    stack = ExitStack()
    used: list[Used] = []

    class Identity(Restorer):
        """Restorer whose network returns its input."""

        def __init__(self, *positional: Any, **options: Any) -> None:
            super().__init__(*positional, **options)
            self.network: Any = _identity
            used.append(stack.enter_context(counted()))

    with patch.object(_builder, "Restorer", Identity), stack:
        restore.run(config)
    return used[0]


def _identity(tiles: Tensor) -> tuple[Tensor]:
    return (tiles,)
