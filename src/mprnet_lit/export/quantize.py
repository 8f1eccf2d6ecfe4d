"""Static int8 quantization of an exported network."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.export.graph import quiet
from mprnet_lit.inference.onnx_runtime import INPUT

Crops = NDArray[np.float32]
"""Degraded crops, (B, 3, H, W) in [0, 1]."""


def to_int8(exported: bytes, crops: Sequence[Crops]) -> bytes:
    """Return the int8 version of an ONNX file. The crops calibrate the activation ranges.

    The inputs and the weights (per channel) of 3x3 convolutions are quantized. Convolutions that
    read or produce an image, 1x1 convolutions, additions and multiplications remain in float32.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    feeds = ({INPUT: crop} for crop in crops)
    model = onnx.load_from_string(exported)
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(target),
            SimpleNamespace(get_next=lambda: next(feeds, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,  # OpenVINO gives wrong results for QInt8
            nodes_to_exclude=_float_convolutions(model),
            calibrate_method=CalibrationMethod.MinMax,
            # Outputs are not quantized, because the next operation reads float32.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
        )
        return target.read_bytes()


def _float_convolutions(model: Any) -> list[str]:
    """Return the names of 1x1 convolutions and of convolutions from or to an image."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            outputs, inputs, height, _ = shapes.get(node.input[1], (3, 3, 1, 1))
            if height == 1 or 3 in (outputs, inputs):
                names.append(node.name)
    return names
