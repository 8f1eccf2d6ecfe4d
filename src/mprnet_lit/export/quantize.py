"""int8: static quantisation of an exported network, calibrated on real photos."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.export.graph import quiet
from mprnet_lit.inference.onnx_runtime import INPUT

Crops = NDArray[np.float32]
"""Degraded crops (B, 3, H, W) in [0, 1]."""


def to_int8(exported: bytes, crops: Sequence[Crops]) -> bytes:
    """Quantise the 3x3 convolutions' weights (per channel) and inputs to 8 bits.

    What reads or makes an image stays in float32, and so do all 1x1 convolutions, additions and
    products.

    Args:
        exported: the float32 ONNX file.
        crops: degraded crops on which the ranges are measured.
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
            activation_type=QuantType.QUInt8,  # OpenVINO gets signed ones wrong
            nodes_to_exclude=_kept(model),
            calibrate_method=CalibrationMethod.MinMax,
            # What follows reads them in float: one rounding less, and none to undo.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]},
        )
        return target.read_bytes()


def _kept(model: "object") -> list[str]:
    """Name the convolutions that stay in float32: 1x1 ones, and those from or to an image."""
    graph = model.graph  # type: ignore[attr-defined]
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "Conv":
            outputs, inputs, height, _ = shapes.get(node.input[1], (3, 3, 1, 1))
            if height == 1 or 3 in (outputs, inputs):
                kept.append(node.name)
    return kept
