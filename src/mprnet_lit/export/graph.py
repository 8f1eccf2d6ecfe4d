"""The network as a graph: one input, one output, any batch, any multiple of 8."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mprnet_lit.inference.onnx_runtime import INPUT
from mprnet_lit.models import SIZE_MULTIPLE, MPRNet
from mprnet_lit.utils.checks import require, require_function
from mprnet_lit.utils.errors import UserError

TOLERANCE = 1e-4
CHECKED = ((1, 3, 64, 64), (2, 3, 72, 136), (1, 3, 256, 128))
"""Shapes at which an exported network is compared with the original."""
_LARGEST = 2048
"""Of either side, in units of 8 pixels."""


class FinalStage(nn.Module):
    """The network's last stage alone, which is the restoration."""

    def __init__(self, model: MPRNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, degraded: Tensor) -> Tensor:
        """Restore (B, 3, H, W) in [0, 1], H and W multiples of 8; not clamped."""
        restored: Tensor = self.model(degraded)[-1]
        return restored


def trace(model: MPRNet) -> ExportedProgram:
    """Trace the final stage for any batch and any height and width that are multiples of 8."""
    require("model", model, MPRNet, "an MPRNet")
    final = FinalStage(model).eval().requires_grad_(False)
    final.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    height = SIZE_MULTIPLE * Dim("height8", min=2, max=_LARGEST)
    width = SIZE_MULTIPLE * Dim("width8", min=2, max=_LARGEST)
    with quiet(), torch.no_grad():
        return torch.export.export(
            final,
            (torch.rand(2, 3, 64, 72),),
            dynamic_shapes={INPUT: {0: Dim("batch", min=1, max=64), 2: height, 3: width}},
        )


def check(exported: Callable[[Tensor], Tensor], model: MPRNet) -> dict[str, float]:
    """Compare an exported network with the original on noise.

    Returns:
        the largest absolute difference at each shape.

    Raises:
        UserError: one is over 1e-4.
    """
    require_function("exported", exported)
    require("model", model, MPRNet, "an MPRNet")
    found: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for shape in CHECKED:
        x = torch.rand(shape, generator=generator)
        with torch.no_grad():
            difference = (exported(x) - model.eval()(x)[-1]).abs().max().item()
        found["x".join(map(str, shape))] = difference
        if not difference <= TOLERANCE:
            raise UserError(
                f"the exported network differs from the original by {difference:.1e} at {shape}: "
                "nothing was written; please report it with the versions of torch and onnxruntime"
            )
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters say of their own work from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
