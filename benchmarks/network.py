"""Jobs of the benchmarks: a training step and an inference of the baseline and of this package."""

import math
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from benchmarks.baseline import PlainMPRNet, plain_loss
from benchmarks.interleave import Job, Maker

from mprnet_lit.data import Photos
from mprnet_lit.images.reading import read_image, to_float
from mprnet_lit.models import SIZES, MPRNet, Size, SizeName
from mprnet_lit.models.stages import ORB, Decoder, Encoder
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.utils.compat import allow_recompilations
from mprnet_lit.utils.hardware import keep_freed_memory
from mprnet_lit.weights import Weights

Shape = tuple[int, int, int, int]


def _pair(shape: Shape, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    target = torch.rand(shape)
    return (target + 0.1 * torch.randn(shape)).to(device), target.to(device)


def plain_step(size: SizeName, shape: Shape, device: str) -> Job:
    degraded, target = _pair(shape, device)
    model = PlainMPRNet(SIZES[size]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

    def step() -> None:
        optimizer.zero_grad()
        plain_loss(model(degraded), target).backward()
        optimizer.step()

    return step


def our_step(
    size: SizeName,
    shape: Shape,
    device: str,
    bf16: bool = False,
    compiled: bool = False,
    checkpointing: bool = False,
    resampling: bool = False,
    padded: bool = False,
    capturable: bool = False,
) -> Job:
    """Return the job of a training step of this package.

    Args:
        size: size of the network.
        shape: shape of the batch.
        device: type of the device.
        bf16: whether to use mixed precision.
        compiled: whether to compile regions of the network.
        checkpointing: whether to use gradient checkpointing.
        resampling: whether the compiled regions are whole encoders and decoders, which resample.
        padded: whether to pad the numbers of channels to multiples of 16.
        capturable: whether a CUDA graph can capture the step.
    """
    if device == "cpu":
        keep_freed_memory()
    degraded, target = (
        t.contiguous(memory_format=torch.channels_last) for t in _pair(shape, device)
    )
    model = MPRNet(**asdict(pad_channels(SIZES[size]) if padded else SIZES[size]))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.set_gradient_checkpointing(checkpointing)
    if compiled and resampling:
        allow_recompilations(32)
        for module in model.modules():
            if isinstance(module, Encoder | Decoder | ORB):
                module.compile(dynamic=False)
    elif compiled:
        model.compile_regions()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=2e-4, fused=True, capturable=capturable and device != "cpu"
    )
    loss_fn = MultiStageLoss().to(device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            stages = model(degraded)
        loss_fn(stages, target).backward()
        optimizer.step()

    return step


def pad_channels(size: Size) -> Size:
    """Return the smallest size with at least as many channels, all in multiples of 16."""

    def up(channels: float) -> int:
        return math.ceil(channels / 16) * 16

    width = up(size.width)
    second, third = (size.width + k * size.unet_step - width for k in (1, 2))
    orsnet_step = up(size.width + size.orsnet_step) - width
    return replace(
        size, width=width, unet_step=max(up(max(second, third / 2)), 0), orsnet_step=orsnet_step
    )


def plain_inference(size: SizeName, shape: Shape, device: str) -> Job:
    image, _ = _pair(shape, device)
    model = PlainMPRNet(SIZES[size]).to(device).eval()

    def run() -> None:
        with torch.no_grad():
            model(image)

    return run


def our_inference(
    size: SizeName, shape: Shape, device: str, bf16: bool = False, compiled: bool = False
) -> Job:
    from mprnet_lit import Restorer

    if device == "cpu":
        keep_freed_memory()
    image, _ = _pair(shape, device)
    torch.manual_seed(0)
    restorer = Restorer(
        MPRNet.from_size(size), precision="bf16" if bf16 else "32", device=device, compile=compiled
    )
    return lambda: restorer.restore(image, last_only=True)


def exported_inference(
    size: SizeName, shape: Shape, device: str, bf16: bool = False, int8: bool = False
) -> Job:
    from mprnet_lit.export import to_onnx
    from mprnet_lit.inference.onnx_runtime import OnnxNetwork

    image, _ = _pair(shape, device)
    content = to_onnx(Weights(MPRNet.from_size(size).eval()))
    if int8:
        from mprnet_lit.export.quantize import to_int8

        photos = [to_float(read_image(s.target)) for s in Photos("train").samples("raise")]
        crops = [np.ascontiguousarray(p[:128, :128].transpose(2, 0, 1)[None]) for p in photos]
        content = to_int8(content, crops)
    network = OnnxNetwork(content, bf16=bf16)
    return lambda: network(image)


def steps(size: SizeName, shape: Shape, device: str) -> dict[str, Maker]:
    ours = partial(our_step, size, shape, device)
    return {
        "plain baseline": partial(plain_step, size, shape, device),
        "float32": ours,
        "float32, checkpointing": partial(ours, checkpointing=True),
        "bf16": partial(ours, bf16=True),
        "bf16, checkpointing": partial(ours, bf16=True, checkpointing=True),
        "bf16, compiled": partial(ours, bf16=True, compiled=True),
    }


def inferences(size: SizeName, shape: Shape, device: str) -> dict[str, Maker]:
    ours = partial(our_inference, size, shape, device)
    makers: dict[str, Maker] = {
        "plain baseline": partial(plain_inference, size, shape, device),
        "float32": ours,
        "bf16": partial(ours, bf16=True),
        "bf16, compiled": partial(ours, bf16=True, compiled=True),
    }
    if device == "cpu":
        exported = partial(exported_inference, size, shape, device)
        makers |= {
            "float32, OpenVINO": exported,
            "bf16, OpenVINO": partial(exported, bf16=True),
            "int8, OpenVINO": partial(exported, int8=True),
            "int8 and bf16, OpenVINO": partial(exported, bf16=True, int8=True),
        }
    return makers
