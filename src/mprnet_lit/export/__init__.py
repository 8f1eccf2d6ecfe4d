"""Exported networks: ONNX, its int8 version, and torch.export programs."""

from mprnet_lit.export.graph import check, trace
from mprnet_lit.export.to_onnx import to_onnx

__all__ = ["check", "to_onnx", "trace"]
