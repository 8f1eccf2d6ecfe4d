"""Running an exported network: on a CPU with OpenVINO if it is installed, else with onnxruntime."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mprnet_lit.models import Size
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.weights import RECORD, Info

INPUT, OUTPUT = "degraded", "restored"

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class OnnxNetwork:
    """An exported network, called as :class:`MPRNet` is; it returns its last stage alone.

    Args:
        source: an ``.onnx`` file that ``mode=export`` wrote, or its content.
        device: ``cuda`` runs on the GPU if onnxruntime can; all else on the CPU.
        bf16: compute in bfloat16 what is not in int8; OpenVINO alone can.

    Raises:
        UserError: no runtime is installed, or none that can do ``bf16``; the file is missing,
            damaged, or no export of ours.
    """

    def __init__(self, source: str | Path | bytes, device: str = "cpu", bf16: bool = False) -> None:
        name = "the exported network" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes):
            if not Path(source).is_file():
                raise UserError(f"there is no file {name}: check weights")
            source = Path(source).read_bytes()
        place = torch.device(device)
        self.runtime, start = _runtime(name, place, bf16)
        try:
            import onnx

            model = onnx.load_from_string(source)
            ends = [[end.name for end in side] for side in (model.graph.input, model.graph.output)]
            if ends != [[INPUT], [OUTPUT]]:
                raise ValueError("another network")
            if _names_files(model):  # which the runtimes would read, whatever they are
                raise ValueError("its numbers lie in another file")
            metadata = {entry.key: entry.value for entry in model.metadata_props}
            record: dict[str, Any] = json.loads(metadata[RECORD])
            self.size, self.info = Size(**record.pop("size")), Info.of(record)
            self.run = start(source, place, bf16)
        except Exception as error:  # the runtimes have many kinds of their own
            raise UserError(
                f"{name} is not a network that mode=export wrote, or it is damaged: export it again"
            ) from error

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the CPU, whatever was asked for."""
        return not self.runtime.endswith("CUDA")

    def __call__(self, x: Tensor) -> tuple[Tensor]:
        """Restore (B, 3, H, W) in [0, 1], H and W multiples of 8; float32, not clamped."""
        restored = self.run(np.ascontiguousarray(x.detach().float().cpu().numpy()))
        return (torch.from_numpy(restored).to(x.device),)


def _names_files(message: Any) -> bool:
    """Tell whether any part of a model is kept in another file."""
    if getattr(message, "external_data", None):
        return True
    parts = (value for field, value in message.ListFields() if field.message_type is not None)
    return any(
        _names_files(part)
        for value in parts
        for part in ([value] if hasattr(value, "ListFields") else value)
    )


def _runtime(
    name: str, device: torch.device, bf16: bool
) -> tuple[str, Callable[[bytes, torch.device, bool], Run]]:
    """Return the name of the runtime for a device, and what starts it."""
    if device.type != "cuda" and _installed("openvino"):
        return "OpenVINO", _start_openvino
    if not _installed("onnxruntime"):
        raise UserError(f"{name} needs onnxruntime, which is not installed: {install_hint('onnx')}")
    if bf16:
        raise UserError(
            f"{name}: precision=bf16 is for OpenVINO, on a CPU: {install_hint('openvino')}, "
            "or leave it at 32"
        )
    import onnxruntime

    gpu = device.type == "cuda" and _CUDA in onnxruntime.get_available_providers()
    return "onnxruntime" + (" on CUDA" if gpu else ""), _start_onnxruntime


def _installed(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


_CUDA = "CUDAExecutionProvider"


def _start_onnxruntime(content: bytes, device: torch.device, bf16: bool) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and _CUDA in onnxruntime.get_available_providers():
        providers.insert(0, (_CUDA, {"device_id": device.index or 0}))
    session = onnxruntime.InferenceSession(content, options, providers=providers)
    return lambda x: session.run([OUTPUT], {INPUT: x})[0]


def _start_openvino(content: bytes, device: torch.device, bf16: bool) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # its own choice may be bf16
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        restored: NDArray[np.float32] = request.infer({INPUT: x})[OUTPUT]
        return restored

    return run
