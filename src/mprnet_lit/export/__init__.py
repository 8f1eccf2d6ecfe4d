"""Export of networks to ONNX (float32 or int8) and to torch.export programs."""

from mprnet_lit.export.graph import check, trace
from mprnet_lit.export.to_onnx import to_onnx

__all__ = ["check", "to_onnx", "trace"]
