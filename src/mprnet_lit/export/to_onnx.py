"""ONNX: the traced network in one file, with what is known of its weights."""

import json

import torch

import mprnet_lit
from mprnet_lit.export.graph import quiet, trace
from mprnet_lit.inference.onnx_runtime import INPUT, OUTPUT
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.weights import RECORD, Weights

_OPSET = 18


def to_onnx(weights: Weights) -> bytes:
    """Return the network as an ONNX file (opset 18).

    Its input is ``degraded``, its output ``restored``, both float32 (B, 3, H, W), H and W multiples
    of 8: the final stage, not clamped. The file's metadata hold the size and the weights' ``Info``.

    Raises:
        UserError: the packages for it are not installed.
    """
    require("weights", weights, Weights, "what weights.read() returns")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f".onnx files need {error.name}, which is not installed: {install_hint('onnx')}"
        ) from error
    program = trace(weights.model)
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
    model = exported.model_proto
    record = weights.info.record(weights.model.size)
    model.producer_name, model.producer_version = "mprnet_lit", mprnet_lit.__version__
    model.metadata_props.add(key=RECORD, value=json.dumps(record))
    return bytes(model.SerializeToString())
