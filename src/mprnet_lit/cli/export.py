"""``mode=export``: export a network to ONNX or torch.export and check its output."""

from collections.abc import Callable
from io import BytesIO
from itertools import islice
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from mprnet_lit import weights
from mprnet_lit.cli.common import new_file
from mprnet_lit.cli.restorer import weights_file
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.export import check, to_onnx, trace
from mprnet_lit.inference.onnx_runtime import OnnxNetwork
from mprnet_lit.metrics import psnr
from mprnet_lit.models import MPRNet
from mprnet_lit.models.padding import pad_to_multiple
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import exceeding

_BATCHES = 16
"""Number of calibration batches (of four crops) for int8."""
_MAX_LOSS = 1.0
"""Largest acceptable PSNR loss of int8 quantization, in dB."""


def run(config: DictConfig) -> None:
    """Export ``weights`` to ``output``."""
    with new_file(config) as output:
        _export(config, output)


def _export(config: DictConfig, output: Path) -> None:
    path = weights_file(config)
    if output.suffix not in (".onnx", ".pt2"):
        raise UserError(f"output={output} must end in .onnx, or in .pt2 for a torch.export program")
    if config.export.int8 and output.suffix != ".onnx":
        raise UserError(f"export.int8=true requires an .onnx file: change output={output}")
    console = Console()
    read = weights.read(path)
    task = read.info.task
    # The task of the calibration images must be that of the weights.
    if config.export.int8 and task and task != config.task.name:
        raise UserError(
            f"{path} was trained to {task}, but export.int8=true is calibrated for "
            f"task={config.task.name}: add task={task}"
        )
    exported: Callable[[Tensor], Tensor]
    if output.suffix == ".pt2":
        content = _program(read.model)
        exported = torch.export.load(BytesIO(content)).module()
    else:
        content = to_onnx(read)
        exported = _runner(content)
    for shape, difference in check(exported, read.model).items():
        print_line(console, f"checked  {shape}: differs from torch by at most {difference:.1e}")
    if config.export.int8:
        content = _int8(content, exported, config, console)
    write_atomic(output, content)
    print_line(console, f"written  {output} ({len(content) / 1e6:.2f} MB)")


def _program(model: MPRNet) -> bytes:
    buffer = BytesIO()
    torch.export.save(trace(model), buffer)
    return buffer.getvalue()


def _runner(content: bytes) -> Callable[[Tensor], Tensor]:
    network = OnnxNetwork(content)
    return lambda x: network(x)[0]


def _int8(
    content: bytes, original: Callable[[Tensor], Tensor], config: DictConfig, console: Console
) -> bytes:
    """Quantize to int8, and print the PSNR loss on the validation photos."""
    from mprnet_lit.export.quantize import to_int8

    data: RestorationDataModule = instantiate(
        config.data,
        patch_size=128,
        batch_size=4,
        num_workers=0,
        val_crop_size=256,
        degrade_on="cpu",
    )
    data.setup()
    batches = islice(data.train_dataloader(), _BATCHES)
    quantized = to_int8(content, [batch["degraded"].numpy() for batch in batches])
    network = _runner(quantized)
    scores: list[Tensor] = []
    for batch in data.val_dataloader():
        degraded, target = batch["degraded"], batch["target"]
        height, width = degraded.shape[-2:]
        padded = pad_to_multiple(degraded)
        images = (degraded, *(run(padded)[..., :height, :width] for run in (original, network)))
        scores.append(torch.stack([psnr(image, target)[0] for image in images]))
    before, exact, rounded = torch.stack(scores).mean(0).tolist()
    print_line(console, f"photos   {len(scores)} held out, degraded: {before:.2f} dB")
    print_line(console, f"float32  {exact:.2f} dB, {len(content) / 1e6:.2f} MB")
    loss = exact - rounded
    size = f"{len(quantized) / 1e6:.2f} MB"
    print_line(console, f"int8     {rounded:.2f} dB, {size}: {loss:+.3f} dB lost")
    if not loss < _MAX_LOSS:
        lost, limit = exceeding(loss, _MAX_LOSS)
        raise UserError(
            f"int8 loses {lost} dB (limit: {limit} dB), so no file was written: check that "
            "data.degradation is the degradation that the weights were trained for"
        )
    return quantized
