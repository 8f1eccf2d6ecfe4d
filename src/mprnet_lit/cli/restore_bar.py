"""Progress bar of mode=restore."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mprnet_lit.cli.restore_inputs import Job
from mprnet_lit.utils.text import printable


class ProgressBar(Progress):
    """Progress bar over the files and over the tiles or frames of the current file."""

    def __init__(self, console: Console, files: int, *, visible: bool) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (visible and console.is_terminal),
        )
        self.done = self.others = 0
        self.started = time.perf_counter()
        self.files = self.add_task("starting", total=files, speed="")

    def begin(self, job: Job, others: int) -> None:
        """Show the name of the current file, and count those that other processes restored."""
        self.others = others
        self.update(self.files, description=printable(job.name)[-40:])

    def move(self, part: int, parts: int) -> None:
        """Show the progress within the current file."""
        self.update(self.files, completed=self.done + self.others + part / max(parts, 1))

    def end(self) -> None:
        """Count the current file as done."""
        self.done += 1
        completed = self.done + self.others
        speed = completed / (time.perf_counter() - self.started)
        self.update(self.files, completed=completed, speed=f"{speed:.2f} images/s")
