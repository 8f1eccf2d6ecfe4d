"""Trial training steps in a separate process, so that an out-of-memory error is harmless."""

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, cast

import psutil
import torch
from omegaconf import DictConfig

from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.training.build import build_model, build_module
from mprnet_lit.training.callbacks.monitor import resident_bytes
from mprnet_lit.training.callbacks.out_of_memory import is_out_of_memory
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory, peak_resident, training_device

AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Autocast data type by trainer precision."""
_INTERVAL = 0.02
"""Interval in seconds between memory measurements of a trial."""


@dataclass(frozen=True)
class Trial:
    """Time and memory of training steps with one batch size.

    Attributes:
        batch: number of patches.
        checkpointing: whether gradient checkpointing was enabled.
        seconds: duration of each timed step in seconds.
        peak: peak memory of the training steps in bytes.
    """

    batch: int
    checkpointing: bool
    seconds: list[float]
    peak: float


def run_trial(config: DictConfig, batch: int, checkpointing: bool, limit: float) -> Trial | None:
    """Train a few steps on random patches in a new process.

    Args:
        config: configuration of the command.
        batch: number of patches.
        checkpointing: whether to use gradient checkpointing.
        limit: memory limit in bytes. A trial that exceeds the limit returns ``None``.

    Raises:
        UserError: a step failed for another reason.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, config, batch, checkpointing, limit))
    process.start()
    theirs.close()
    try:
        outcome = ours.recv()
        if isinstance(outcome, int):  # memory before training, on a CPU
            trial = psutil.Process(process.pid)
            while not ours.poll(_INTERVAL):
                if resident_bytes(trial) - outcome > limit:
                    process.kill()
            outcome = ours.recv()
    except EOFError:  # killed by this process or by the system
        outcome = None
    process.join()
    if isinstance(outcome, str):
        raise UserError(f"a training step of {batch} patches failed: {outcome}")
    return cast(Trial | None, outcome)


def _serve(end: Connection, *arguments: Any) -> None:
    """Send the trial, ``None`` after an out-of-memory error, or the message of another error."""
    register_resolvers()
    try:
        end.send(_trial(end, *arguments))
    except Exception as error:
        end.send(None if is_out_of_memory(error) else " ".join(str(error).split()))


def _trial(
    end: Connection, config: DictConfig, batch: int, checkpointing: bool, limit: float
) -> Trial:
    device = training_device(config.trainer.accelerator)
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0))
    model = build_model(config).model
    module = build_module(config, model, gradient_checkpointing=checkpointing)
    # Exclude the memory of the libraries, which does not depend on the batch.
    before = psutil.Process().memory_info().rss - sum(p.nbytes for p in model.parameters())
    if device.type == "cpu":
        end.send(before)
    module.to(device)
    optimizer = module.make_optimizer(module.model.parameters())
    dtype = AUTOCAST[str(config.trainer.precision)]
    side = config.data.patch_size
    degraded, target = torch.rand(2, batch, 3, side, side, device=device)
    module.train()
    seconds = []
    for number in range(int(config.profile.steps) + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            stages = module(degraded)
        module.loss(stages, target).backward()
        optimizer.step()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        if number:  # the first step is a warm-up
            seconds.append(time.perf_counter() - started)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_reserved(device) if on_gpu else peak_resident() - before
    return Trial(batch, checkpointing, seconds, float(peak))
