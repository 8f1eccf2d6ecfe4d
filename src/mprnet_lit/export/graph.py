"""Network as a graph with one input and one output of dynamic shape."""

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
"""Maximum absolute difference between the outputs of an exported network and the original."""
CHECKED_SHAPES = ((1, 3, 64, 64), (2, 3, 72, 136), (1, 3, 256, 128))
"""Input shapes for the comparison of an exported network with the original."""
_MAX_SIDE = 2048
"""Maximum height and width, in units of 8 pixels."""


class FinalStage(nn.Module):
    """Network that returns only the output of the last stage."""

    def __init__(self, model: MPRNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, degraded: Tensor) -> Tensor:
        """Restore (B, 3, H, W) in [0, 1]; H and W are multiples of 8. The output is not clamped."""
        restored: Tensor = self.model(degraded)[-1]
        return restored


def trace(model: MPRNet) -> ExportedProgram:
    """Trace a network for up to 64 images with sides of 16 to 16384 pixels (multiples of 8).

    Args:
        model: network, of which the program returns the last stage.

    Raises:
        UserError: ``model`` is not an MPRNet.
    """
    require("model", model, MPRNet, "an MPRNet")
    final = FinalStage(model).eval().requires_grad_(False)
    final.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    height = SIZE_MULTIPLE * Dim("height8", min=2, max=_MAX_SIDE)
    width = SIZE_MULTIPLE * Dim("width8", min=2, max=_MAX_SIDE)
    with quiet(), torch.no_grad():
        return torch.export.export(
            final,
            (torch.rand(2, 3, 64, 72),),
            dynamic_shapes={INPUT: {0: Dim("batch", min=1, max=64), 2: height, 3: width}},
        )


def check(exported: Callable[[Tensor], Tensor], model: MPRNet) -> dict[str, float]:
    """Compare an exported network with the original on random images.

    Args:
        exported: function that maps (B, 3, H, W) to the restored batch.
        model: original network.

    Returns:
        Maximum absolute difference by input shape, such as ``1x3x64x64``.

    Raises:
        UserError: an argument has the wrong type, or a difference is above 1e-4.
    """
    require_function("exported", exported)
    require("model", model, MPRNet, "an MPRNet")
    differences: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for shape in CHECKED_SHAPES:
        x = torch.rand(shape, generator=generator)
        with torch.no_grad():
            difference = (exported(x) - model.eval()(x)[-1]).abs().max().item()
        differences["x".join(map(str, shape))] = difference
        if not difference <= TOLERANCE:
            raise UserError(
                f"the exported network differs from the original by {difference:.1e} for the shape "
                f"{shape}: nothing was written; please report this with the versions of torch and "
                "onnxruntime"
            )
    return differences


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings and log messages of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
