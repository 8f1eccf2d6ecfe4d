"""``mode=restore``: restore photos and videos of any size, in their own file format."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mprnet_lit.cli import common as arguments
from mprnet_lit.cli.restore_inputs import Job, beside, find_jobs
from mprnet_lit.cli.restore_plan import Plan, check_report, make_plan
from mprnet_lit.cli.restore_record import Records
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.images.reading import Pixels, write_png
from mprnet_lit.inference import Restorer
from mprnet_lit.reports.image_report import Entry, center, write_report
from mprnet_lit.utils.atomic import staging
from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import FileState, file_digest
from mprnet_lit.utils.prefetch import SerialExecutor, prefetch
from mprnet_lit.utils.text import printable
from mprnet_lit.video.restore import restore_video
from mprnet_lit.weights import SHIPPED

T = TypeVar("T")

_PICTURES = 20
"""Largest number of photos in a report."""
_LARGEST = 1024
"""Longest side of a picture in the report, in pixels; larger photos are cropped to the center."""


def run(config: DictConfig) -> None:
    """Restore the photos and videos of ``input`` into ``output``; skip up-to-date results.

    Raises:
        UserError: an option is invalid, a result would overwrite another file, or some files
            could not be restored. In the last case all other files are restored first.
    """
    console, options = Console(), config.restore
    kinds = ["stage1", "stage2"] * options.stages + ["compare"] * options.compare
    jobs = find_jobs(
        arguments.inputs(config),
        arguments.place(config, "output"),
        kinds,
        partial(print_line, console),
    )
    restorer = arguments.restorer(config)
    print_table(console, restorer.settings)
    if config.weights is None:
        others = " or ".join(name for name in SHIPPED if name != config.task.name)
        print_line(console, f"Small weights that come with the package; for others: task={others}")
    if options.stages and str(config.weights).endswith(".onnx"):
        raise UserError(
            "restore.stages=true is not available for exported networks, which return their last "
            "stage only: remove it"
        )
    outputs = _Outputs(options.stages, options.compare, options.report, _recipe(restorer))
    output = Path(str(config.output))
    page = (output.parent if jobs[0].destination == output else output) / "report.html"
    if options.report:
        check_report(page, outputs.records, overwrite=config.overwrite)
    plan = make_plan(jobs, outputs.recipe, outputs.records, overwrite=config.overwrite)
    _say_done(console, plan, len(jobs))
    for job in plan.done:
        _show(job, outputs)
    failures = _restore_all(plan.todo, restorer, outputs, console, str(config.output))
    if options.report:
        _report(page, restorer, outputs)
    if failures:
        lines = "".join(f"\n  {printable(failure)}" for failure in failures)
        raise UserError(f"{len(failures)} of {len(plan.todo)} files could not be restored:{lines}")


def _recipe(restorer: Restorer) -> str:
    """Return a digest of the weights and of the options that change a result.

    The digest does not include the device and the free memory. With ``tile=auto``, the results in
    one folder may therefore have different tile sizes.
    """
    made_by = {
        "weights": file_digest(Path(restorer.source)),
        "tile": restorer.tile,
        "overlap": None if restorer.tile is None else restorer.overlap,
        "memory_gb": restorer.memory_gb if restorer.tile == "auto" else None,
        "tlc_crop": restorer.crop,
        "self_ensemble": bool(restorer.self_ensemble),
        "precision": str(restorer.dtype),
    }
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]


def _say_done(console: Console, plan: Plan, jobs: int) -> None:
    if plan.done:
        print_line(
            console, f"{len(plan.done)} of {jobs} done before (overwrite=true does them again)"
        )
    if plan.again:
        changed = "the photo, the weights or the options changed"
        print_line(console, f"Replacing {plan.again} of {jobs} results: {changed}")


@dataclass
class _Outputs:
    """Output options, records of the results, and entries of the report."""

    stages: bool
    compare: bool
    report: bool
    recipe: str
    records: Records = field(default_factory=Records)
    entries: list[Entry] = field(default_factory=list)
    photos: int = 0

    @property
    def shown(self) -> bool:
        """Whether the report has room for another photo."""
        return self.report and len(self.entries) < _PICTURES

    def show(self, job: Job, before: Pixels, stages: Sequence[Pixels], after: Pixels) -> None:
        """Count a photo, and add it to the report unless the report is full."""
        self.photos += 1
        if self.shown:
            # Crop to the centers, because the entries stay in memory until the page is written.
            first, *between, last = (center(image, _LARGEST) for image in (before, *stages, after))
            entry = Entry(job.name, first, last, stages=tuple(between), size=after.shape[:2])
            self.entries.append(entry)


def _show(job: Job, outputs: _Outputs) -> None:
    """Add a photo that an earlier call restored to the report, without its stages."""
    if outputs.shown and not job.is_video:
        photos = read_photo(job.source), read_photo(job.destination)
        outputs.show(job, photos[0].pixels, (), photos[1].pixels)
    elif not job.is_video:
        outputs.photos += 1


def _restore_all(
    jobs: Sequence[Job], restorer: Restorer, outputs: _Outputs, console: Console, where: str
) -> list[str]:
    """Restore photos and videos; return one message for each file that could not be restored."""
    failures: list[str] = []
    if not jobs:
        return failures

    def attempt(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except UserError as error:
            failures.append(str(error))
            print_line(console, f"Failed: {error}")  # above the progress bar
            return None

    started = time.perf_counter()
    with _Bar(console, len(jobs)) as bar, SerialExecutor() as writer:
        # While a photo is restored, the next one is read and the previous one is written.
        for source in prefetch(_Source.read(job) for job in jobs):
            bar.begin(source.job)
            write = attempt(partial(_restore, source, restorer, outputs, bar))
            if write is not None:
                writer.submit(partial(attempt, write))
            bar.end()
    done, seconds = len(jobs) - len(failures), time.perf_counter() - started
    print_line(
        console, f"{done} restored in {seconds:.1f} s ({done / seconds:.2f} a second) into {where}"
    )
    return failures


@dataclass(frozen=True)
class _Source:
    """Job with its file state and, for a photo, its pixels; or with the error of reading them."""

    job: Job
    file: FileState | None = None
    photo: Photo | None = None
    error: UserError | None = None

    @classmethod
    def read(cls, job: Job) -> Self:
        try:
            file = FileState.of(job.source, with_changed=True)
            return cls(job, file, None if job.is_video else read_photo(job.source))
        except UserError as error:
            return cls(job, error=error)
        except OSError as error:
            reason = error.strerror or error
            return cls(job, error=UserError(f"{job.source} can't be read ({reason}): check it"))


def _restore(
    source: _Source, restorer: Restorer, outputs: _Outputs, bar: "_Bar"
) -> Callable[[], None] | None:
    """Restore a photo and return the function that writes it; restore and write a video."""
    if source.error is not None:
        raise source.error
    if source.photo is None:
        with _writing(source, outputs) as result:
            restore_video(source.job.source, result, restorer, bar.move, bar.say)
        return None
    last_only = not (outputs.stages or outputs.shown)
    *stages, restored = restorer.stages(source.photo.pixels, bar.move, last_only=last_only)
    return partial(_write, source, source.photo, stages, restored, outputs)


def _write(
    source: _Source,
    photo: Photo,
    stages: list[NDArray[Any]],
    restored: NDArray[Any],
    outputs: _Outputs,
) -> None:
    with _writing(source, outputs) as result:
        write_photo(result, replace(photo, pixels=restored))
        if outputs.stages:
            for number, stage in enumerate(stages, start=1):
                write_png(beside(result, f"stage{number}"), stage)
        if outputs.compare:
            write_png(beside(result, "compare"), np.concatenate((photo.pixels, restored), 1))
    outputs.show(source.job, photo.pixels, stages, restored)


@contextmanager
def _writing(source: _Source, outputs: _Outputs) -> Iterator[Path]:
    """Yield a temporary path for the result; then record the files and move them into place."""
    destination, file = source.job.destination, source.file
    with staging(destination.parent) as folder:
        yield folder / destination.name
        origin = source.job.source
        outputs.records.publish(folder, destination.parent, origin, file, outputs.recipe)


def _report(page: Path, restorer: Restorer, outputs: _Outputs) -> None:
    shown = len(outputs.entries)
    with staging(page.parent) as folder:
        write_report(
            folder / page.name,
            "Restored photos",
            restorer.settings,
            [["photos", "shown"], [str(outputs.photos), str(shown)]],
            outputs.entries,
            omitted=outputs.photos - shown,
        )
        outputs.records.publish(folder, page.parent, None, None, "")


class _Bar:
    """Progress bar over the files and over the tiles or frames of the current file."""

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
        """Show the name of the current file."""
        self.progress.update(self.task, description=printable(job.name)[-40:])

    def move(self, part: int, parts: int) -> None:
        """Show the progress within the current file."""
        self.progress.update(self.task, completed=self.done + part / max(parts, 1))

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        print_line(self.progress.console, line)

    def end(self) -> None:
        """Count the current file as done."""
        self.done += 1
        speed = self.done / (time.perf_counter() - self.started)
        self.progress.update(self.task, completed=self.done, speed=f"{speed:.2f} images/s")
