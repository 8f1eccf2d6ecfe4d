"""Inference with exported networks: OpenVINO on a CPU if installed, else ONNX Runtime."""

import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.models import Size
from mprnet_lit.utils.compat import openvino_without_int8
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.weights import RECORD, Info

INPUT, OUTPUT = "degraded", "restored"
_CUDA = "CUDAExecutionProvider"

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Started = tuple[Run, str, torch.dtype]
"""Function that runs a network, the name of the runtime, and the floating-point type."""
Start = Callable[[bytes, bool], Started]
"""Function that loads the content of a file; the flag tells whether the network is in int8."""


class OnnxNetwork:
    """Exported network that is called like :class:`MPRNet` and returns only the last stage.

    Attributes:
        runtime: name of the runtime, and how it differs on this CPU.
        dtype: ``bfloat16`` if the runtime computes in it, else ``float32``.
        size: hyperparameters of the network.
        info: metadata of the weights.

    Args:
        source: path or content of an ``.onnx`` file that this package exported.
        device: ``cuda`` for a GPU if ONNX Runtime supports it; otherwise the CPU.
        bf16: whether to compute in bfloat16 (except int8 operations), which needs OpenVINO. A CPU
            without bfloat16 instructions computes in float32.

    Raises:
        UserError: no runtime is installed, the installed runtime does not support ``bf16``, or the
            file is missing, damaged, or not an export of this package.
    """

    def __init__(self, source: str | Path | bytes, device: str = "cpu", bf16: bool = False) -> None:
        name = "the exported network" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes):
            if not Path(source).is_file():
                raise UserError(f"the file {name} does not exist: check the path")
            source = Path(source).read_bytes()
        start = _runtime(name, torch.device(device), bf16)
        try:
            import onnx

            model = onnx.load_from_string(source)
            ends = [[end.name for end in side] for side in (model.graph.input, model.graph.output)]
            if ends != [[INPUT], [OUTPUT]]:
                raise ValueError("other inputs or outputs")
            if _has_external_data(model):  # the runtimes would read arbitrary files
                raise ValueError("external data")
            metadata = {entry.key: entry.value for entry in model.metadata_props}
            record: dict[str, Any] = json.loads(metadata[RECORD])
            self.size, self.info = Size(**record.pop("size")), Info.of(record)
            self.run, self.runtime, self.dtype = start(source, _is_int8(model))
        except Exception as error:  # the runtimes raise many types
            raise UserError(
                f"{name} is not an export of this package, or it is damaged: export it again"
            ) from error

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs on the CPU."""
        return not self.runtime.endswith("CUDA")

    def __call__(self, x: Tensor) -> tuple[Tensor]:
        """Restore a batch.

        Args:
            x: batch (B, 3, H, W) in [0, 1]; H and W are multiples of 8.

        Returns:
            Restored batch (B, 3, H, W) float32, not clamped, on the device of ``x``.
        """
        restored = self.run(np.ascontiguousarray(x.detach().float().cpu().numpy()))
        return (torch.from_numpy(restored).to(x.device),)


def _has_external_data(message: Any) -> bool:
    """Return whether any part of an ONNX model refers to another file."""
    if getattr(message, "external_data", None):
        return True
    parts = (value for field, value in message.ListFields() if field.message_type is not None)
    return any(
        _has_external_data(part)
        for value in parts
        for part in ([value] if hasattr(value, "ListFields") else value)
    )


def _is_int8(model: Any) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _multiplies_int8() -> bool:
    """Return whether this CPU has int8 dot products without saturation in 16 bits.

    On x86, these are the instructions VNNI and AMX.
    """
    has = torch.cpu.get_capabilities()
    return has.get("architecture") != "x86_64" or any(
        has.get(name) for name in ("avx_vnni", "avx512_vnni", "amx_int8")
    )


def _runtime(name: str, device: torch.device, bf16: bool) -> Start:
    """Return the function that loads a network with the runtime for a device."""
    if device.type != "cuda" and find_spec("openvino"):
        return partial(_start_openvino, bf16=bf16)
    if not find_spec("onnxruntime"):
        raise UserError(f"{name} needs onnxruntime, which is not installed: {install_hint('onnx')}")
    if bf16:
        raise UserError(
            f"precision=bf16 of the exported network {name} needs OpenVINO and a CPU: "
            f"{install_hint('openvino')}, or set precision=32"
        )
    return partial(_start_onnxruntime, device=device)


def _start_onnxruntime(content: bytes, int8: bool, device: torch.device) -> Started:
    import onnxruntime

    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and _CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (_CUDA, {"device_id": device.index or 0}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    if int8:  # sums of products overflow on x86 CPUs without VNNI
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    runtime = "onnxruntime" + (" on CUDA" if len(providers) > 1 else "")
    return lambda x: session.run([OUTPUT], {INPUT: x})[0], runtime, torch.float32


def _start_openvino(content: bytes, int8: bool, bf16: bool) -> Started:
    import openvino

    core = openvino.Core()
    missing = []
    if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        bf16 = False
        missing.append("bfloat16")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # the default may be bf16
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    if int8 and not _multiplies_int8():  # sums of products overflow: 1.5 dB for the denoiser
        settings |= openvino_without_int8()
        missing.append("int8")
    request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()
    runtime = "OpenVINO"
    if missing:
        runtime += f" in float32, because this CPU has no {' and '.join(missing)} instructions"
    dtype = torch.bfloat16 if bf16 else torch.float32
    return lambda x: request.infer({INPUT: x})[OUTPUT], runtime, dtype
