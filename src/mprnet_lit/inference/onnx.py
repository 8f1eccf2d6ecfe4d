"""Running an exported network with onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mprnet_lit.errors import UserError
from mprnet_lit.models import Size
from mprnet_lit.weights import RECORD, Info

INPUT, OUTPUT = "degraded", "restored"


class OnnxNetwork:
    """An exported network, called as :class:`MPRNet` is; it returns its last stage alone.

    Args:
        source: an ``.onnx`` file that ``mode=export`` wrote, or its content.
        device: ``cuda`` runs on the GPU if onnxruntime can; all else on the CPU.

    Raises:
        UserError: onnxruntime is not installed; the file is missing, damaged, or no export of ours.
    """

    def __init__(self, source: str | Path | bytes, device: str = "cpu") -> None:
        name = "the exported network" if isinstance(source, bytes) else str(source)
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{name} needs onnxruntime, which is not installed: pip install 'mprnet_lit[onnx]'"
            ) from error
        if not isinstance(source, bytes):
            if not Path(source).is_file():
                raise UserError(f"there is no file {name}: check weights")
            source = Path(source).read_bytes()  # so that the file can't name others to be read
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        providers: list[Any] = ["CPUExecutionProvider"]
        cuda, place = "CUDAExecutionProvider", torch.device(device)
        if place.type == "cuda" and cuda in onnxruntime.get_available_providers():
            providers.insert(0, (cuda, {"device_id": place.index or 0}))
        try:
            self.session = onnxruntime.InferenceSession(source, options, providers=providers)
            ends = self.session.get_inputs(), self.session.get_outputs()
            if [[end.name for end in side] for side in ends] != [[INPUT], [OUTPUT]]:
                raise ValueError("another network")
            metadata = self.session.get_modelmeta().custom_metadata_map
            record: dict[str, Any] = json.loads(metadata[RECORD])
            self.size, self.info = Size(**record.pop("size")), Info.of(record)
        except Exception as error:  # the runtime has many kinds of its own
            raise UserError(
                f"{name} is not a network that mode=export wrote, or it is damaged: export it again"
            ) from error

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the CPU, whatever was asked for."""
        return bool(self.session.get_providers()[0] == "CPUExecutionProvider")

    def __call__(self, x: Tensor) -> tuple[Tensor]:
        """Restore (B, 3, H, W) in [0, 1], H and W multiples of 8; float32, not clamped."""
        degraded = np.ascontiguousarray(x.detach().float().cpu().numpy())
        (restored,) = self.session.run([OUTPUT], {INPUT: degraded})
        return (torch.from_numpy(restored).to(x.device),)
