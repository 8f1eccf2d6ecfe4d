"""Measure time to quality: PSNR on held-out photographs by seconds of training.

python -m benchmarks.quality --minutes 15 --json quality.json

All variants train with the same photographs, crops, seed and Gaussian noise of sigma 25. Each
variant trains in a separate process, and the variants alternate every 30 seconds. Validation time
does not count. The learning rate follows a warm-up and a cosine decay over the training time, so
every variant completes its schedule.
"""

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import albumentations as A
import torch
from benchmarks.baseline import PlainMPRNet, plain_loss

from mprnet_lit.data import PairedAugmentation, Photos, RestorationDataModule
from mprnet_lit.data.degradations import GaussianNoise
from mprnet_lit.metrics import psnr
from mprnet_lit.models import SIZES, MPRNet, SizeName
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.utils.hardware import fast_precision, keep_freed_memory

LR = 2e-4
"""Learning rate of the paper."""
TURN = 30.0
"""Seconds of training between validations."""


@dataclass
class Variant:
    """Training variant with its duration and results."""

    name: str
    ours: bool
    seconds: float
    curve: list[dict[str, float]] = field(default_factory=list)


class Training:
    """Training that runs for a given number of seconds at a time."""

    def __init__(self, variant: Variant, size: SizeName, batch: int, patch: int) -> None:
        torch.manual_seed(0)
        self.variant = variant
        self.bf16 = variant.ours and fast_precision(torch.device("cpu"))[0] == "bf16-mixed"
        self.layout = torch.channels_last if variant.ours else torch.contiguous_format
        start = MPRNet.from_size(size)
        if variant.ours:
            keep_freed_memory()
            self.model: torch.nn.Module = start.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.loss: Any = MultiStageLoss(edge_weight=0, clamp=True)
        else:
            self.model = PlainMPRNet(SIZES[size])
            self.model.load_state_dict(start.state_dict())
            self.loss = lambda stages, target: plain_loss(stages, target, edge_weight=0)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR, fused=variant.ours)
        self.data = RestorationDataModule(
            Photos("train"),
            Photos("val"),
            GaussianNoise(25),
            PairedAugmentation([A.D4(p=1.0)]),
            patch_size=patch,
            batch_size=batch,
            crops_per_image=10_000,  # one long epoch
            num_workers=0,
        )
        self.data.setup()
        self.batches: Iterator[Any] = iter(self.data.train_dataloader())
        self.done, self.steps = 0.0, 0

    def run(self, seconds: float) -> dict[str, float]:
        """Train for the given number of seconds, then validate."""
        self.model.train()
        until = min(self.done + seconds, self.variant.seconds)
        while self.done < until:
            started = time.perf_counter()
            self._step()
            self.done += time.perf_counter() - started
        return {"seconds": self.done, "steps": self.steps, "psnr": self._validate()}

    def _step(self) -> None:
        share = self.done / self.variant.seconds
        rate = min(share / 0.03, 0.5 + 0.5 * math.cos(math.pi * share)) + 1e-3
        for group in self.optimizer.param_groups:
            group["lr"] = LR * rate
        batch = next(self.batches)
        degraded = batch["degraded"].contiguous(memory_format=self.layout)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            stages = self.model(degraded)
        self.loss(stages, batch["target"]).backward()
        self.optimizer.step()
        self.steps += 1

    def _validate(self) -> float:
        model = self.model.eval()
        with torch.no_grad():
            scores = []
            for batch in self.data.val_dataloader():
                degraded = batch["degraded"].contiguous(memory_format=self.layout)
                with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                    restored = model(degraded)[-1]
                scores.append(psnr(restored, batch["target"]))
        return torch.cat(scores).mean().item()


def _serve(end: Any, variant: Variant, size: SizeName, batch: int, patch: int) -> None:
    training = Training(variant, size, batch, patch)
    while (seconds := end.recv()) is not None:
        end.send(training.run(seconds))


def measure(minutes: float, size: SizeName, batch: int, patch: int) -> list[Variant]:
    """Train the variants alternately and return them with their curves."""
    seconds = minutes * 60
    variants = [
        Variant("plain baseline", False, seconds),
        Variant("ours", True, seconds),
    ]
    context = multiprocessing.get_context("spawn")
    running = []
    for variant in variants:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, variant, size, batch, patch))
        process.start()
        running.append((variant, ours))
    while running:
        for variant, end in list(running):
            end.send(TURN)
            variant.curve.append(end.recv())
            last = variant.curve[-1]
            print(
                f"{variant.name:26}{last['seconds']:7.0f} s{last['steps']:6.0f} steps"
                f"{last['psnr']:8.2f} dB",
                flush=True,
            )
            if last["seconds"] >= variant.seconds:
                end.send(None)
                running.remove((variant, end))
    return variants


def time_to(curve: list[dict[str, float]], wanted: float) -> float | None:
    """Return the interpolated seconds until a curve reaches a PSNR, or ``None`` if it does not."""
    before = {"seconds": 0.0, "psnr": -math.inf}
    for point in curve:
        if point["psnr"] >= wanted:
            if before["psnr"] == -math.inf:
                return point["seconds"]
            share = (wanted - before["psnr"]) / (point["psnr"] - before["psnr"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        if point["psnr"] > before["psnr"]:
            before = point
    return None


def figures(variants: list[Variant]) -> dict[str, Any]:
    """Return the curves, and the speedups over the baseline to reach several PSNRs."""
    baseline = variants[0].curve
    best = max(point["psnr"] for point in baseline)
    first = max(v.curve[0]["psnr"] for v in variants)  # the time of a lower PSNR is unknown
    levels = [*range(math.ceil(first), math.floor(best) + 1), best]

    def times(variant: Variant) -> dict[str, float | None]:
        out = {}
        for level in levels:
            own, theirs = time_to(variant.curve, level), time_to(baseline, level)
            out[f"{level:.2f}"] = theirs / own if own and theirs else None
        return out

    return {"variants": [asdict(v) | {"times_as_fast_to": times(v)} for v in variants]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    out = figures(measure(options.minutes, options.size, options.batch, options.patch))
    for variant in out["variants"]:
        print(variant["name"], "speedup to reach (dB):", variant["times_as_fast_to"])
    if options.json:
        options.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
