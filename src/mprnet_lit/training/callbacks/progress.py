"""Training progress bar: loss, PSNR and remaining time."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mprnet_lit.training.module import logs_this_step


class Progress(ProgressBar):
    """Shows a progress bar of all steps on a terminal, or else prints one line per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console()
        self.bar: Bar | None = None
        self.task: TaskID | None = None

    def disable(self) -> None:
        """Disable the output. Lightning calls this method in all processes except the first."""
        self.console.quiet = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the progress bar."""
        if self.console.quiet or not self.console.is_terminal:
            return
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
        )
        total = int(trainer.estimated_stepping_batches)
        self.task = self.bar.add_task("starting", total=total, completed=trainer.global_step)
        self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Update the progress bar, and its text after a logged step."""
        if self.bar is not None and self.task is not None:
            logged = logs_this_step(trainer, done=True) or trainer.is_last_batch
            text = _line(trainer) if logged else None  # reads tensors of the device
            self.bar.update(self.task, completed=trainer.global_step, description=text)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line if the progress bar is not shown."""
        if self.bar is None:
            self.console.print(_line(trainer), highlight=False, soft_wrap=True)

    def on_train_end(self, *_: Any) -> None:
        """Close the progress bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_exception(self, *_: Any) -> None:
        """Close the progress bar before the error message is printed."""
        self.on_train_end()


def _line(trainer: Trainer) -> str:
    """Return a line with epoch, loss and PSNR."""
    metrics = trainer.callback_metrics
    total = trainer.max_epochs if trainer.max_steps == -1 else None
    line = f"epoch {trainer.current_epoch + 1}" + (f"/{total}" if total and total > 0 else "")
    if "train/loss" in metrics:
        line += f"  loss {metrics['train/loss']:.4f}"
    if "val/psnr" in metrics:
        line += f"  PSNR {metrics['val/psnr']:.2f} dB ({metrics['val/psnr_gain']:+.2f})"
    elif "train/psnr" in metrics:
        line += f"  train PSNR {metrics['train/psnr']:.2f} dB"
    return line
