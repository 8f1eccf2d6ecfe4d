"""Jobs of python -m benchmarks.gpu: steps, inferences, a folder of photos, a training loop."""

import importlib.util
import statistics
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, cast

import cv2
import hydra
import lightning
import numpy as np
import skimage
import torch
from benchmarks import network
from benchmarks.baseline import PlainMPRNet, plain_loss
from benchmarks.gpu_timing import elapsed, synchronize, warm_up
from benchmarks.interleave import Job
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from mprnet_lit import Restorer, weights
from mprnet_lit.cli import restore
from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.models import SIZES, MPRNet, SizeName
from mprnet_lit.training.callbacks import Monitor, Progress, SkipNonFinite, StopOnSignal
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule

TASKS = {"base": "Denoising", "large": "Deblurring", "small": "Deraining", "tiny": "Denoising"}
"""Folder of the reference checkout by size; its classes differ in their defaults only."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements.

    Attributes:
        steps: size of the network, batch and side of the patches of each training step.
        inference: size of the restoring network.
        height: height of the photos.
        width: width of the photos.
        photos: number of photos of ``mode=restore``.
        rounds: number of timed rounds.
        steps_of_fit: number of steps of the training loop.
    """

    steps: tuple[tuple[SizeName, int, int], ...]
    inference: SizeName
    height: int
    width: int
    photos: int
    rounds: int
    steps_of_fit: int


def reference_network(name: SizeName, checkout: Path | None) -> nn.Module:
    """Return the network of a reference checkout, or the plain baseline without one."""
    size = SIZES[name]
    if checkout is None:
        return PlainMPRNet(size)
    path = checkout / TASKS[name] / "MPRNet.py"
    spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: nn.Module = module.MPRNet(
        n_feat=size.width,
        scale_unetfeats=size.unet_step,
        scale_orsnetfeats=size.orsnet_step,
        num_cab=size.cabs_per_orb,
        reduction=size.reduction,
    )
    return built


def their_step(
    name: SizeName, batch: int, patch: int, device: torch.device, checkout: Path | None
) -> Job:
    torch.backends.cudnn.benchmark = True
    degraded, target = torch.rand(2, batch, 3, patch, patch, device=device)
    model = reference_network(name, checkout).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        plain_loss(tuple(model(degraded)), target).backward()
        optimizer.step()

    return step


def our_step(name: SizeName, batch: int, patch: int, device: torch.device, **options: bool) -> Job:
    torch.backends.cudnn.benchmark = False
    shape = (batch, 3, patch, patch)
    return network.our_step(name, shape, device.type, bf16=True, **options)


def graphed_step(
    name: SizeName, batch: int, patch: int, device: torch.device, **options: bool
) -> Job:
    """Return the job that replays a step (forward, backward, optimizer) as one CUDA graph.

    The inputs are static. On a CPU, the step runs without a graph.
    """
    step = our_step(name, batch, patch, device, capturable=True, **options)
    if device.type != "cuda":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, and allocates the state of the optimizer
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def their_inference(
    name: SizeName, height: int, width: int, device: torch.device, checkout: Path | None
) -> Job:
    """Return the job that restores an array as the test scripts of the reference do."""
    torch.backends.cudnn.benchmark = True
    image = photo(height, width)
    model = reference_network(name, checkout).to(device).eval()
    last = -1 if checkout is None else 0  # the reference returns its last stage first

    def run() -> None:
        x = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None].to(device)
        with torch.no_grad():
            restored = model(x)[last].clamp(0, 1)
        (restored[0].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)

    return run


def our_inference(
    name: SizeName, height: int, width: int, device: torch.device, compiled: bool = False
) -> Job:
    torch.backends.cudnn.benchmark = False
    model = MPRNet.from_size(name)
    restorer = Restorer(model, precision="bf16", device=device.type, compile=compiled)
    return partial(restorer, photo(height, width))


def photo(height: int, width: int) -> Any:
    """Return a noisy photo (H, W, 3) uint8."""
    clean = cv2.resize(skimage.data.coffee(), (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = clean + np.random.default_rng(0).normal(0, 10, clean.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def restore_folder(sizes: Sizes, device: torch.device, folder: Path) -> dict[str, float]:
    """Run ``mode=restore`` on a folder, and compare it with the time of the network alone."""
    photos = folder / "photos"
    photos.mkdir()
    encoded = cv2.imencode(".png", photo(sizes.height, sizes.width))[1].tobytes()
    for k in range(sizes.photos):
        (photos / f"{k}.png").write_bytes(encoded)
    weights.save(MPRNet.from_size(sizes.inference), folder / "w.safetensors")
    register_resolvers()
    arguments = [
        f"weights={folder}/w.safetensors", f"input={photos}", f"output={folder}/restored",
        f"inference.device={device.type}", "inference.precision=bf16",
    ]  # fmt: skip
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("restore", arguments)
    job = our_inference(sizes.inference, sizes.height, sizes.width, device)
    for _ in warm_up(sizes.rounds):
        job()
    alone = statistics.median(elapsed(job, device) for _ in range(sizes.rounds))
    started = time.perf_counter()
    with redirect_stdout(StringIO()):
        restore.run(config)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "photos_per_second": sizes.photos / seconds,
        "network_share": sizes.photos * alone / seconds,
    }


def train(sizes: Sizes, device: torch.device, folder: Path) -> dict[str, float]:
    """Run the training loop on batches in memory, and compare it with the bare step."""
    name, batch, patch = sizes.steps[0]
    job = our_step(name, batch, patch, device)
    for _ in warm_up(sizes.rounds):
        job()
    bare = statistics.median(elapsed(job, device) for _ in range(sizes.rounds))
    images = torch.rand(2, batch, 3, patch, patch)
    images = images.pin_memory() if device.type == "cuda" else images
    item: Any = {"degraded": images[0], "target": images[1], "name": ["photo"] * batch}
    module = RestorationModule(
        MPRNet.from_size(name), MultiStageLoss(), partial(torch.optim.Adam, fused=True)
    )
    clock = _Clock(device, warm_up=sizes.steps_of_fit // 4)
    lightning.Trainer(
        max_epochs=1, precision="bf16-mixed", log_every_n_steps=10,
        accelerator="gpu" if device.type == "cuda" else "cpu", devices=1,
        logger=CSVLogger(folder), enable_model_summary=False,
        callbacks=[Monitor(), Progress(), SkipNonFinite(folder), StopOnSignal(folder), clock],
    ).fit(module, DataLoader(cast(Any, [item] * sizes.steps_of_fit), batch_size=None))  # fmt: skip
    return {
        "bare_step_ms": 1e3 * bare,
        "step_ms": 1e3 * clock.seconds,
        "share": bare / clock.seconds,
    }


class _Clock(lightning.Callback):
    """Measures the mean time of the steps after the first ones."""

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self.device, self.warm_up = device, warm_up
        self.count, self.started, self.seconds = 0, 0.0, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self.count += 1
        if self.count == self.warm_up:
            synchronize(self.device)
            self.started = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        synchronize(self.device)
        self.seconds = (time.perf_counter() - self.started) / (self.count - self.warm_up)
