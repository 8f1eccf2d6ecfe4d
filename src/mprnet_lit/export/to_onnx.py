"""Export to ONNX with the metadata of the weights."""

import json
from typing import Any

import torch
from torch.export import ExportedProgram

import mprnet_lit
from mprnet_lit.export.graph import quiet, trace
from mprnet_lit.inference.onnx_runtime import INPUT, OUTPUT
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.weights import RECORD, Weights

_OPSET = 18


def to_onnx(weights: Weights) -> bytes:
    """Export a network to ONNX (opset 18).

    The input ``degraded`` and the output ``restored`` are (B, 3, H, W) float32; H and W are
    multiples of 8. The output is that of the last stage, not clamped. The metadata of the file has
    the hyperparameters and the ``Info`` of the weights.

    Args:
        weights: network with its metadata, as ``weights.read`` returns it.

    Returns:
        Content of the ONNX file.

    Raises:
        UserError: ``weights`` has the wrong type, or onnx or onnxscript is not installed.
    """
    require("weights", weights, Weights, "the result of weights.read()")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX export needs {error.name}, which is not installed: {install_hint('onnx')}"
        ) from error
    model = _convert(weights.model)
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, with the paths of this machine
    record = weights.info.record(weights.model.size)
    model.producer_name, model.producer_version = "mprnet_lit", mprnet_lit.__version__
    model.metadata_props.add(key=RECORD, value=json.dumps(record))
    return bytes(model.SerializeToString())


def _convert(model: MPRNet) -> Any:
    """Convert the final stage of the network to an ``onnx.ModelProto``."""
    program = trace(model)
    skip_passes(program)
    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    return exported.model_proto


def skip_passes(program: ExportedProgram) -> None:
    """Make the exporter skip the passes over a program that trace it three more times.

    ONNX has an equivalent of every operation of the network except in-place additions, which
    this function replaces. None of them may change a view. All tensors have the same type, so that
    no operation needs the promotion of types either. The network has no assertions.
    """
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.add_.Tensor:  # all later operations read its result
            changed = node.args[0]
            assert set(changed.users) == {node}, f"{changed} has a view that {node} changes"
            node.target = torch.ops.aten.add.Tensor
    program.run_decompositions = lambda _table: program
    # The exporter promotes types and removes assertions in these modules.
    program.graph_module.modules = lambda: iter(())
