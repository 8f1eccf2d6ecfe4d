"""``mode=restore``: restore photos and videos, whatever their size, and keep their kind."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mprnet_lit.data.images import write_png
from mprnet_lit.data.jobs import Job, find_jobs
from mprnet_lit.data.photo import Photo, read_photo, write_photo
from mprnet_lit.data.video import restore_video
from mprnet_lit.errors import UserError
from mprnet_lit.inference import Restorer
from mprnet_lit.modes import arguments
from mprnet_lit.overlap import Behind, ahead
from mprnet_lit.tracking.report import Entry, centre, write_report
from mprnet_lit.tracking.terminal import say, say_facts
from mprnet_lit.weights import SHIPPED

T = TypeVar("T")

_PICTURES = 20
"""The most photos that a report page embeds."""
_LARGEST = 1024
"""Longest side in pixels of a report's picture; of larger photos the centre is shown."""


def run(config: DictConfig) -> None:
    """Restore all that ``input`` names into ``output``.

    Raises:
        UserError: an option can't be used, or, once all the others are done, some files could not
            be restored.
    """
    console = Console()
    jobs = find_jobs(str(config.input), str(config.output))
    todo = [job for job in jobs if config.overwrite or not job.destination.exists()]
    if len(todo) < len(jobs):
        console.print(
            f"{len(jobs) - len(todo)} of {len(jobs)} done before (overwrite=true does them again)"
        )
    if not todo:
        return
    restorer = arguments.restorer(config)
    say_facts(console, restorer.settings)
    if config.weights is None:
        others = " or ".join(name for name in SHIPPED if name != config.task.name)
        say(console, f"Small weights that come with the package; for others: task={others}")
    if config.stages and str(config.weights).endswith(".onnx"):
        raise UserError("stages=true: an exported network has its last stage alone; leave it out")
    outputs = _Outputs(config.stages, config.compare, config.report)
    failures: list[str] = []

    def attempt(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except UserError as error:
            failures.append(str(error))
            say(console, f"Failed: {error}")  # above the bar
            return None

    started = time.perf_counter()
    with _Bar(console, len(todo)) as bar, Behind() as behind:
        # While a photo is restored, the next is read and the one before is written.
        for job, photo in ahead((job, _read(job)) for job in todo):
            bar.begin(job)
            write = attempt(partial(_restore, job, photo, restorer, outputs, bar))
            if write is not None:
                behind.run(partial(attempt, write))
            bar.end()
    done, seconds = len(todo) - len(failures), time.perf_counter() - started
    speed = f"{done / seconds:.2f} a second"
    say(console, f"{done} restored in {seconds:.1f} s ({speed}) into {config.output}")
    if config.report:
        _report(Path(str(config.output)), restorer, outputs)
    if failures:
        lines = "".join(f"\n  {failure}" for failure in failures)
        raise UserError(f"{len(failures)} of {len(todo)} files could not be restored:{lines}")


@dataclass
class _Outputs:
    """What is wanted besides the restored photos, and the report's entries so far."""

    stages: bool
    compare: bool
    report: bool
    entries: list[Entry] = field(default_factory=list)
    photos: int = 0

    @property
    def shown(self) -> bool:
        """Whether the report has room for another photo."""
        return self.report and len(self.entries) < _PICTURES


def _read(job: Job) -> Photo | UserError | None:
    """Return the photo, or what is wrong with it; ``None`` for a video."""
    if job.is_video:
        return None
    try:
        return read_photo(job.source)
    except UserError as error:
        return error


def _restore(
    job: Job, photo: Photo | UserError | None, restorer: Restorer, outputs: _Outputs, bar: "_Bar"
) -> Callable[[], None] | None:
    """Restore a photo and return what writes it; a video is written at once."""
    if photo is None:
        restore_video(job.source, job.destination, restorer, bar.move)
        return None
    if isinstance(photo, UserError):
        raise photo
    last_only = not (outputs.stages or outputs.shown)
    *stages, restored = restorer.stages(photo.pixels, bar.move, last_only=last_only)
    return partial(_write, job, photo, stages, restored, outputs)


def _write(
    job: Job, photo: Photo, stages: list[NDArray[Any]], restored: NDArray[Any], outputs: _Outputs
) -> None:
    write_photo(job.destination, replace(photo, pixels=restored))
    if outputs.stages:
        for number, stage in enumerate(stages, start=1):
            write_png(_beside(job, f"stage{number}"), stage)
    if outputs.compare:
        write_png(_beside(job, "compare"), np.concatenate((photo.pixels, restored), 1))
    outputs.photos += 1
    if outputs.shown:
        # The centres alone, so that the whole photos are not held until the page is written.
        images = (photo.pixels, *stages, restored)
        before, *between, after = (centre(image, _LARGEST) for image in images)
        entry = Entry(job.name, before, after, stages=tuple(between), size=restored.shape[:2])
        outputs.entries.append(entry)


def _beside(job: Job, what: str) -> Path:
    return job.destination.with_name(f"{job.destination.name}.{what}.png")


def _report(output: Path, restorer: Restorer, outputs: _Outputs) -> None:
    folder = output if output.is_dir() else output.parent
    shown = len(outputs.entries)
    write_report(
        folder / "report.html",
        "Restored photos",
        restorer.settings,
        [["photos", "shown"], [str(outputs.photos), str(shown)]],
        outputs.entries,
        omitted=outputs.photos - shown,
    )


class _Bar:
    """A bar over the files and, within one, over its tiles or frames."""

    def __init__(self, console: Console, files: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.done = 0
        self.started = time.perf_counter()
        self.task: TaskID = self.progress.add_task("starting", total=files, speed="")

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, job: Job) -> None:
        """Show the file's name."""
        self.progress.update(self.task, description=job.name[-40:])

    def move(self, part: int, parts: int) -> None:
        """Show how much of the file is done."""
        self.progress.update(self.task, completed=self.done + part / max(parts, 1))

    def end(self) -> None:
        """Count the file."""
        self.done += 1
        speed = self.done / (time.perf_counter() - self.started)
        self.progress.update(self.task, completed=self.done, speed=f"{speed:.2f} images/s")
