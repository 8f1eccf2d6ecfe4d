"""Kill a training repeatedly with SIGKILL, resume it each time, and compare the final state.

The same small training runs twice: once without interruption, and once with kills at random times,
some of them during a checkpoint write. The final weights, averaged weights, optimizer and schedule
must be equal bit for bit. Each process is forked after the imports and runs ``main`` of the command
line.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mprnet_lit.cli.train  # noqa: F401
from mprnet_lit.__main__ import main as command
from mprnet_lit.images.reading import write_png
from mprnet_lit.utils.atomic import write_atomic

SMALL = (
    "model=tiny", "model.width=8", "model.unet_step=4", "model.orsnet_step=4",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "data=clean",
    "data.train.folder=../images", "data.patch_size=16", "data.batch_size=2",
    "data.val_crop_size=16", "data.num_workers=2", "callbacks=ema", "logger=none",
    "schedule.per_step=true", "module.mixup_after_epoch=0", "module.mixup_alpha=1.2",
    "~callbacks.panels",
)  # fmt: skip
"""Settings of a training so small that writing checkpoints takes most of the time."""
MOST_SAVES = 4
"""Number of checkpoint writes after which a process is killed even before its random time."""


def start(folder: Path, log: Path, arguments: Sequence[str]) -> Any:
    """Start the command in a forked process."""

    def run() -> None:
        os.chdir(folder)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        sys.argv = ["mprnet_lit", *SMALL, *arguments]
        command()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def last_checkpoint(folder: Path) -> Path | None:
    return next(folder.glob("runs/*/*/checkpoints/last.ckpt"), None)


def parts(folder: Path) -> list[Path]:
    """Return the incomplete checkpoints: those in progress or interrupted by a kill."""
    return list(folder.glob("runs/*/*/checkpoints/*.part"))


def step_of(path: Path | None) -> int:
    return 0 if path is None else int(load(path)["global_step"])


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """Return the names of the entries that differ between two trees of tensors and plain values."""
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [f"{name}: different keys"]
        return [d for k in first for d in differences(first[k], second[k], f"{name}/{k}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            return [f"{name}: different lengths"]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{name}/{k}")]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [name]
    return [] if first == second else [name]


COMPARED = (
    "state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers",
    "global_step", "epoch",
)  # fmt: skip


def kill_once(
    folder: Path,
    log: Path,
    options: Sequence[str],
    rng: random.Random,
    max_seconds: float,
    during_save: bool,
) -> dict[str, Any] | None:
    """Start or resume the training and kill it. Return ``None`` if it ended before the kill.

    Args:
        folder: working directory of the command.
        log: file for the output of the command.
        options: arguments of the command.
        rng: random generator for the time of the kill.
        max_seconds: maximum seconds until the kill.
        during_save: whether to kill the process while it writes one of its first checkpoints.
    """
    before = step_of(last_checkpoint(folder))
    for part in parts(folder):
        part.unlink()  # to detect the next write; training would overwrite it
    process = start(folder, log, [*options, "resume=auto"])
    started = time.monotonic()
    kill_time, kill_save = started + rng.uniform(0, max_seconds), rng.randint(1, MOST_SAVES)
    saves, saving = 0, False
    while process.is_alive():
        was_saving, saving = saving, bool(parts(folder))
        saves += saving and not was_saving
        if during_save:
            due = saves >= kill_save
        else:
            due = time.monotonic() >= kill_time or saves > MOST_SAVES
        if due:
            break
        time.sleep(0.002)
    if during_save:
        time.sleep(rng.uniform(0, 0.02))  # at any point of the write or sync
    process.kill()
    seconds = time.monotonic() - started
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return None
    last = last_checkpoint(folder)
    return {
        "aimed_at_saving": during_save,
        "while_saving": bool(parts(folder)),
        "seconds": round(seconds, 2),
        "step_before": before,
        "step_after": step_of(last),  # reads the checkpoint, which must be complete
    }


def kill_and_compare(
    folder: Path, kills: int, aimed: int, epochs: int, max_seconds: float, seed: int
) -> dict[str, Any]:
    """Run the training with and without kills, and return the events and the differences."""
    rng = random.Random(seed)
    options = (f"trainer.max_epochs={epochs}",)
    for name in ("uninterrupted", "killed", "images"):
        (folder / name).mkdir(parents=True)
    for k, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (6, 24, 24, 3))):
        write_png(folder / "images" / f"{k}.png", pixels.astype(np.uint8))
    started = time.monotonic()
    reference_log = folder / "uninterrupted.log"
    uninterrupted = start(folder / "uninterrupted", reference_log, options)
    kinds = [k < aimed for k in range(kills)]
    rng.shuffle(kinds)
    log, events = folder / "killed.log", []
    for number, during_save in enumerate(kinds, 1):
        event = kill_once(folder / "killed", log, options, rng, max_seconds, during_save)
        if event is None:
            sys.exit(
                f"the training ended before kill {number}; increase --epochs unless it failed: "
                f"{_end(log)}"
            )
        events.append(event)
        print(f"{number:3d}  {json.dumps(event)}", flush=True)
    process = start(folder / "killed", log, [*options, "resume=auto"])
    process.join()
    if process.exitcode:
        sys.exit(f"the training failed after the last kill: {_end(log)}")
    uninterrupted.join()
    if uninterrupted.exitcode:
        sys.exit(f"the uninterrupted training failed: {_end(reference_log)}")
    checkpoints = [last_checkpoint(folder / name) for name in ("uninterrupted", "killed")]
    first, second = ({key: load(c)[key] for key in COMPARED} for c in checkpoints if c)
    differing = differences(first, second)
    return {
        "kills": len(events),
        "while_saving": sum(e["while_saving"] for e in events),
        "without_a_new_checkpoint": sum(e["step_before"] == e["step_after"] for e in events),
        "steps": first["global_step"],
        "seconds": round(time.monotonic() - started, 1),
        "runs": len(list((folder / "killed").glob("runs/*/*/run.json"))),
        "compared": list(COMPARED),
        "tensors": _tensors(first),
        "differing": differing,
        "parts_left": [path.name for path in (folder / "killed").rglob("*.part")],
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "events": events,
    }


def _end(log: Path) -> str:
    return log.read_text()[-2000:]


def _tensors(tree: Any) -> int:
    if isinstance(tree, torch.Tensor):
        return 1
    children = tree.values() if isinstance(tree, dict) else tree
    return sum(map(_tensors, children)) if isinstance(tree, dict | list | tuple) else 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--aimed", type=int, default=10, help="number of kills during a save")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--span", type=float, default=8.0, help="maximum seconds until a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        print(f"working directory: {name}", flush=True)
        result = kill_and_compare(
            Path(name), options.kills, options.aimed, options.epochs, options.span, options.seed
        )
    print(json.dumps({k: v for k, v in result.items() if k != "events"}, indent=1))
    if options.output is not None:
        write_atomic(options.output, (json.dumps(result, indent=1) + "\n").encode())
    if result["differing"]:
        sys.exit(f"{len(result['differing'])} values differ")
    print("equal, bit for bit")


if __name__ == "__main__":
    main()
