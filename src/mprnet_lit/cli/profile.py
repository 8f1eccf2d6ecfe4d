"""``mode=profile``: measure the training speed and the largest batch that fits into memory."""

import json
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from mprnet_lit.cli.common import new_file
from mprnet_lit.training.build import build_model
from mprnet_lit.training.step_probe import AUTOCAST, Trial, run_trial
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes, training_device

_MEMORY_SHARE = 0.9
"""Fraction of the free memory that training may use."""


def run(config: DictConfig) -> None:
    """Measure training steps by batch size, without and with gradient checkpointing."""
    if config.trainer.precision not in AUTOCAST:
        raise UserError(
            f"trainer.precision={config.trainer.precision} can't be measured: set it to one of "
            + ", ".join(AUTOCAST)
        )
    with nullcontext() if config.output is None else new_file(config) as output:
        _measure(config, output)


def _measure(config: DictConfig, output: Path | None) -> None:
    console = Console()
    device = training_device(config.trainer.accelerator)
    memory_gb = config.profile.memory_gb
    limit = _MEMORY_SHARE * free_bytes(device) if memory_gb is None else memory_gb * 1e9
    model = build_model(config).model
    facts = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "patch": f"{config.data.patch_size}x{config.data.patch_size}",
        "precision": config.trainer.precision,
        "device": device,
        "memory": f"{limit / 1e9:.3g} GB",
    }
    print_table(console, facts)
    trials: list[Trial] = []
    for checkpointing in (False, True):
        # The default argument binds the current value of checkpointing.
        def attempt(batch: int, checkpointing: bool = checkpointing) -> Trial | None:
            print_line(console, f"trying {batch} patches{_suffix(checkpointing)}")
            return run_trial(config, batch, checkpointing, limit)

        trials += search(attempt, int(config.profile.largest_batch), limit)
    if not trials:
        raise UserError(
            f"not even one patch fits into {limit / 1e9:.3g} GB: choose a smaller data.patch_size, "
            "a smaller model, or a larger profile.memory_gb"
        )
    console.print(_table(trials))
    for line in _advice(trials, config):
        print_line(console, line)
    if output is not None:
        record = {"facts": {k: str(v) for k, v in facts.items()}, "trials": [*map(asdict, trials)]}
        write_atomic(output, (json.dumps(record, indent=1) + "\n").encode())


def search(attempt: Callable[[int], Trial | None], largest: int, limit: float) -> list[Trial]:
    """Search for the largest batch size that fits, and return the trials of all sizes that fit.

    The search doubles the batch size, then bisects until the interval is at most an eighth of the
    largest size that fits.

    Args:
        attempt: function that runs a batch size; it returns ``None`` if the size does not fit.
        largest: largest batch size to try.
        limit: memory limit in bytes. A size with a larger estimated memory is not tried.
    """
    fitted: list[Trial] = []
    fits, too_large = 0, largest + 1
    while too_large - fits > max(1, fits // 8):
        doubled = min(max(2 * fits, 1), largest)
        batch = doubled if doubled < too_large else (fits + too_large) // 2
        trial = None if _estimated_memory(fitted, batch) > limit else attempt(batch)
        if trial is None:
            too_large = batch
        else:
            fitted.append(trial)
            fits = batch
    return fitted


def _estimated_memory(fitted: list[Trial], batch: int) -> float:
    """Estimate the memory of a batch by linear extrapolation of the two largest trials."""
    if len(fitted) < 2:
        return 0
    before, last = fitted[-2:]
    slope = (last.peak - before.peak) / (last.batch - before.batch)
    return last.peak + max(slope, 0) * (batch - last.batch)


def _speed(trial: Trial) -> float:
    return trial.batch / statistics.median(trial.seconds)


def _suffix(checkpointing: bool) -> str:
    return ", gradient checkpointing" if checkpointing else ""


def _table(trials: list[Trial]) -> Table:
    table = Table(title="Training steps")
    for column in ("batch", "checkpointing", "seconds", "patches/s", "memory"):
        table.add_column(column, justify="right")
    for trial in trials:
        table.add_row(
            str(trial.batch),
            "on" if trial.checkpointing else "off",
            f"{statistics.median(trial.seconds):.3f}",
            f"{_speed(trial):.2f}",
            f"{trial.peak / 1e9:.2f} GB",
        )
    return table


def _advice(trials: list[Trial], config: DictConfig) -> list[str]:
    lines = []
    for checkpointing in sorted({t.checkpointing for t in trials}):
        largest = max(t.batch for t in trials if t.checkpointing == checkpointing)
        bound = " (profile.largest_batch)" if largest == config.profile.largest_batch else ""
        lines.append(f"largest batch per device{_suffix(checkpointing)}: {largest}{bound}")
    fastest = max(trials, key=_speed)
    option = " module.gradient_checkpointing=true" if fastest.checkpointing else ""
    count = config.trainer.accumulate_grad_batches
    accumulated = f" x {count} accumulated batches" if count != 1 else ""
    lines.append(f"fastest: data.batch_size={fastest.batch} x devices{accumulated}{option}")
    return lines
