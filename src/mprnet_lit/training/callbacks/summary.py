"""Console output of the plan and result of a run, and ``summary.json``."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from mprnet_lit.data import RestorationDataModule
from mprnet_lit.runs import folder as runs
from mprnet_lit.training.module import RESTORATIONS, RestorationModule
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.hardware import fast_precision

_ROWS = dict(zip(RESTORATIONS, ("degraded input", "stage 1", "stage 2", "stage 3"), strict=True))


class Summary(Callback):
    """Prints the training plan and the best validation, and writes ``summary.json``.

    Args:
        folder: directory of the run.

    Attributes:
        best: metrics, epoch and step of the best validation, and the number of parameters of the
            network. A resumed training starts with the values of ``best.ckpt``.
    """

    def __init__(self, folder: str | Path) -> None:
        require("folder", folder, (str, Path), "the name of a folder")
        self.folder = Path(folder)
        self.best: dict[str, float] = {}
        self.console = Console()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the plan."""
        if trainer.is_global_zero:
            for line in plan(trainer):
                print_line(self.console, line)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the metrics if their PSNR is the best so far."""
        metrics = {
            name.removeprefix("val/"): value.item()
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        if metrics["psnr"] > self.best.get("psnr", float("-inf")):
            assert isinstance(pl_module, RestorationModule)
            self.best = metrics | {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "parameters": count_parameters(pl_module),
            }

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``summary.json`` and print the table."""
        if not trainer.is_global_zero:
            return
        if not self.best:
            print_line(self.console, f"No validation was run. The run is in {self.folder}")
            return
        write_summary(self.folder, self.best)
        show(self.folder, self.best, self.console)


def count_parameters(module: RestorationModule) -> int:
    """Return the number of parameters of the network of a module."""
    return sum(p.numel() for p in module.model.parameters())


def write_summary(folder: Path, best: dict[str, float]) -> None:
    """Write ``summary.json``: the best validation and the checkpoint that the run started from."""
    checkpoint = runs.resumed_from(folder)
    content = best | ({} if checkpoint is None else {"resumed_from": checkpoint})
    write_atomic(folder / runs.SUMMARY, (json.dumps(content, indent=2) + "\n").encode())


def show(folder: Path, best: dict[str, float], console: Console) -> None:
    """Print the best validation as a table, and the existing files of the run."""
    if best:
        console.print(table(best))
    places = {
        "best weights": folder / "checkpoints" / "best.ckpt",
        "last checkpoint": folder / "checkpoints" / "last.ckpt",
        "panel": folder / "panels" / "latest.png",
        "run folder": folder,
    }
    facts: dict[str, Any] = {name: path for name, path in places.items() if path.exists()}
    if checkpoint := runs.resumed_from(folder):
        facts["resumed from"] = checkpoint
    print_table(console, facts)


def plan(trainer: Trainer) -> list[str]:
    """Return lines that describe the training run: network, device, precision, data, length."""
    module, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(module, RestorationModule) and isinstance(data, RestorationDataModule)
    size = module.model.size
    parameters = count_parameters(module)
    images, validated = data.counts()
    patches = images * data.crops_per_image
    if trainer.max_steps != -1:
        budget = f"{trainer.max_steps} steps"
    else:
        budget = f"{trainer.max_epochs} epochs of {patches} patches"
    device = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
    done = f", resuming after step {trainer.global_step}" if trainer.global_step else ""
    choice, why = fast_precision(trainer.strategy.root_device)
    reason = why if trainer.precision == choice else f"{why}: consider trainer.precision={choice}"
    memory_format = "channels_last" if module.memory_format == torch.channels_last else "NCHW"
    optimizer = trainer.optimizers[0]
    fused = "fused " if optimizer.defaults.get("fused") else ""
    on_cpu = trainer.strategy.root_device.type == "cpu"
    degrading = ", degradations on the device" if data.degrades_on_device() else ""
    threads = f"{torch.get_num_threads()} threads" if on_cpu else "pinned memory"
    workers, why = data.workers()
    return [
        f"Training MPRNet to {module.info.task}: {parameters:,} parameters (width {size.width}), "
        f"on {device}",
        f"  precision {trainer.precision} ({reason}); {memory_format}; "
        f"network {module.compiling.text}; {fused}{type(optimizer).__name__}; "
        f"per device {threads} and {workers} data workers ({why}){degrading}",
        f"  {images} training and {validated} validation images; "
        f"patches of {data.patch_size}x{data.patch_size}, batch {data.batch_size}",
        f"  {budget}{done}",
    ]


def table(best: dict[str, float]) -> Table:
    """Return a table of the best validation: PSNR and SSIM of the input and of each stage."""
    out = Table(title=f"Best validation: epoch {best['epoch']:.0f}")
    for column in ("", "PSNR", "gain", "SSIM"):
        out.add_column(column, justify="right" if column else "left")
    for name, label in _ROWS.items():
        value = best[f"psnr_{name}"]
        gain = "" if name == "degraded" else f"{value - best['psnr_degraded']:+.2f}"
        out.add_row(label, f"{value:.2f} dB", gain, f"{best[f'ssim_{name}']:.4f}")
    return out
