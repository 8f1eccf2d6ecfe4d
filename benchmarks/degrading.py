"""Compare a process that degrades patches with one that leaves it to the training device."""

import time
from typing import Any

import albumentations as A
import cv2
import torch
from benchmarks.interleave import Figures
from benchmarks.report import table

from mprnet_lit.data import PairedAugmentation, Photos
from mprnet_lit.data.datasets import CropDataset, ImageCache
from mprnet_lit.data.degradations import (
    CameraNoise,
    Degradation,
    GaussianNoise,
    MotionBlur,
    RainStreaks,
    RandomChoice,
)
from mprnet_lit.data.degrade_on import degrade_batch
from mprnet_lit.data.sampling import ItemKey, LazyLoader

_ROTATE = A.D4(p=1.0)
_SATURATE = A.ColorJitter((1, 1), (1, 1), (0.8, 1.2), (0, 0), p=0.3333)
TASKS: dict[str, tuple[Degradation, list[A.BasicTransform]]] = {
    "denoise without JPEG": (RandomChoice([GaussianNoise(), CameraNoise()], [2, 1]), [_ROTATE]),
    "blur by one kernel": (MotionBlur(), [_ROTATE, _SATURATE]),
    "derain": (RainStreaks(), [_ROTATE, _SATURATE]),
}
BATCH = 16


def measure(device: str = "cpu", batches: int = 3, rounds: int = 5) -> dict[str, Any]:
    """Return a table of the patches per second and CPU core for each task and patch size.

    Args:
        device: device on which batches are degraded. The time of the device is measured only if it
            is not a CPU.
        batches: number of batches of a round.
        rounds: number of timed rounds.
    """
    cv2.setNumThreads(0)  # as in a worker
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    for task in TASKS:
        for side in (128, 256):
            figures = _time_workers(task, side, batches, rounds)
            if device != "cpu":
                figures["on the device"] = _time_device(task, side, batches, rounds, device)
            for name, row in table(figures, "")["rows"].items():
                speed = batches * BATCH / row["median_s"]
                rows[f"{task}, {side}x{side}, {name}: {speed:.0f} patches/s"] = row
    return {"title": f"{batches * BATCH} patches in one process", "rows": rows}


def _loader(task: str, side: int, batches: int, later: bool) -> LazyLoader:
    degradation, transforms = TASKS[task]
    samples = Photos("train").samples("raise")
    dataset = CropDataset(
        samples,
        crop_size=side,
        training=True,
        degradation=degradation,
        augmentation=PairedAugmentation(transforms),
        crops_per_image=BATCH * batches,
        cache=ImageCache(10**9),
        degrade_later=later,
    )
    keys = [ItemKey(0, item) for item in range(BATCH * batches)]
    return LazyLoader(dataset, batch_size=BATCH, sampler=keys)


def _time_workers(task: str, side: int, batches: int, rounds: int) -> dict[str, Figures]:
    """Measure the CPU time of loading batches in interleaved rounds, after one unmeasured round."""
    names = {"degraded by the worker": False, "for the device": True}
    loaders = {name: _loader(task, side, batches, later) for name, later in names.items()}
    figures = {name: Figures() for name in names}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            started = time.process_time()
            list(loader)
            if number:
                figures[name].seconds.append(time.process_time() - started)
    return figures


def _time_device(task: str, side: int, batches: int, rounds: int, device: str) -> Figures:
    """Time the degradation of batches that are already on the device."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(child) for name, child in value.items()}
        return value.to(device) if isinstance(value, torch.Tensor) else value

    ready = [moved(batch) for batch in _loader(task, side, batches, later=True)]
    figures = Figures()
    for number in range(rounds + 1):
        started = time.perf_counter()
        for batch in ready:
            degrade_batch(batch, TASKS[task][0])
        torch.accelerator.synchronize()
        if number:
            figures.seconds.append(time.perf_counter() - started)
    return figures
