"""Static int8 quantization of an exported network."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.export.graph import quiet
from mprnet_lit.inference.onnx_runtime import INPUT

Crops = NDArray[np.float32]
"""Degraded crops, (B, 3, H, W) in [0, 1]."""


def to_int8(exported: bytes, crops: Sequence[Crops]) -> bytes:
    """Quantize the inputs and the weights (per channel) of 3x3 convolutions to 8 bits.

    Convolutions that read or produce an image, 1x1 convolutions, additions and multiplications
    remain in float32.

    Args:
        exported: content of the float32 ONNX file.
        crops: degraded crops that calibrate the activation ranges.

    Returns:
        Content of the int8 ONNX file.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.crops: Iterator[Crops] = iter(crops)

        def get_next(self) -> dict[str, Crops] | None:
            crop = next(self.crops, None)
            return None if crop is None else {INPUT: crop}

    model = onnx.load_from_string(exported)
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,  # OpenVINO gives wrong results for QInt8
            nodes_to_exclude=_float_convolutions(model),
            calibrate_method=CalibrationMethod.MinMax,
            # The next operation reads float32, so that outputs need no rounding.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
        )
        return target.read_bytes()


def _float_convolutions(model: "object") -> list[str]:
    """Return the names of 1x1 convolutions and of convolutions from or to an image."""
    graph = model.graph  # type: ignore[attr-defined]
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    names = []
    for node in graph.node:
        if node.op_type == "Conv":
            outputs, inputs, height, _ = shapes.get(node.input[1], (3, 3, 1, 1))
            if height == 1 or 3 in (outputs, inputs):
                names.append(node.name)
    return names
