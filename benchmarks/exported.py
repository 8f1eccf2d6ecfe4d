"""Measure OpenVINO inference of an exported network in float32, bfloat16 and int8."""

import numpy as np
import torch
from benchmarks.interleave import Job

from mprnet_lit.data import Photos
from mprnet_lit.export import to_onnx
from mprnet_lit.images.reading import read_image, to_float
from mprnet_lit.inference.onnx_runtime import OnnxNetwork
from mprnet_lit.models import MPRNet, SizeName
from mprnet_lit.weights import Weights


def exported_inference(
    size: SizeName, shape: tuple[int, int, int, int], bf16: bool = False, int8: bool = False
) -> Job:
    torch.manual_seed(0)
    image = torch.rand(shape)
    content = to_onnx(Weights(MPRNet.from_size(size).eval()))
    if int8:
        from mprnet_lit.export.quantize import to_int8

        photos = [to_float(read_image(s.target)) for s in Photos("train").samples("raise")]
        crops = [np.ascontiguousarray(p[:128, :128].transpose(2, 0, 1)[None]) for p in photos]
        content = to_int8(content, crops)
    network = OnnxNetwork(content, bf16=bf16)
    return lambda: network(image)
