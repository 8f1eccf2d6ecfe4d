"""``mode=restore``: restore photos and videos of any size, in their own file format."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mprnet_lit.cli import common as arguments
from mprnet_lit.cli.restore_inputs import Job, find_jobs
from mprnet_lit.cli.restore_outputs import Outputs, Source
from mprnet_lit.cli.restore_places import Target, local_inputs
from mprnet_lit.cli.restore_plan import check_report, make_plan
from mprnet_lit.cli.restore_video import restore_and_write
from mprnet_lit.images.photo import read_photo
from mprnet_lit.inference import Restorer
from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import FileState, file_digest
from mprnet_lit.utils.hardware import cores
from mprnet_lit.utils.prefetch import OrderedExecutor, prefetch
from mprnet_lit.utils.text import printable
from mprnet_lit.utils.url import shown
from mprnet_lit.weights import SHIPPED

T = TypeVar("T")

_WRITERS = 8
"""Maximum number of photos that are written at the same time if a GPU restores them."""


def run(config: DictConfig) -> None:
    """Restore the photos and videos of ``input`` into ``output``; skip up-to-date results.

    Raises:
        UserError: an option is invalid, a result would overwrite another file, or some files
            could not be restored. In the last case all other files are restored first.
    """
    console, options = Console(), config.restore
    kinds = ["stage1", "stage2"] * options.stages + ["compare"] * options.compare
    destination, note = arguments.place(config, "output"), partial(print_line, console)
    target = Target(destination)
    jobs = find_jobs(local_inputs(arguments.inputs(config), destination), target.local, kinds, note)
    restorer = arguments.restorer(config)
    print_table(console, restorer.settings)
    if config.weights is None:
        others = " or ".join(name for name in SHIPPED if name != config.task.name)
        print_line(
            console, f"Using the small weights in the package; for another task, add task={others}"
        )
    if options.stages and str(config.weights).endswith(".onnx"):
        raise UserError(
            "restore.stages=true is not available for exported networks, which return their last "
            "stage only: remove it"
        )
    outputs = Outputs(
        stages=options.stages,
        compare=options.compare,
        report=options.report,
        recipe=_recipe(restorer),
        limit=restorer.info.change,
        note=note,
        push=target.push,
    )
    output = Path(target.local)
    page = (output.parent if jobs[0].destination == output else output) / "report.html"
    if options.report:
        check_report(page, outputs.records, overwrite=config.overwrite)
    target.check(jobs, page if options.report else None, overwrite=config.overwrite)
    plan = make_plan(jobs, outputs.recipe, outputs.records, overwrite=config.overwrite)
    if plan.done:
        done = f"{len(plan.done)} of {len(jobs)}"
        print_line(console, f"{done} are already restored (overwrite=true restores them again)")
    if plan.again:
        changed = "the photo, the weights or the options changed"
        print_line(console, f"Replacing {plan.again} of {len(jobs)} results: {changed}")
    for job in plan.done:
        outputs.show_done(job)
    failures = _restore_all(plan.todo, restorer, outputs, console, shown(destination))
    if options.report:
        outputs.write_report(page, {"results in": shown(destination)} | restorer.settings)
    if failures:
        lines = "".join(f"\n  {printable(failure)}" for failure in failures)
        raise UserError(f"{len(failures)} of {len(plan.todo)} files could not be restored:{lines}")


def _recipe(restorer: Restorer) -> str:
    """Return a digest of the weights and of the options that change a result.

    The digest does not include the device and the free memory. With ``tile=auto``, the results in
    one folder may therefore have different tile sizes.
    """
    options = {
        "weights": file_digest(Path(restorer.source)),
        "tile": restorer.tile,
        "overlap": None if restorer.tile is None else restorer.overlap,
        "memory_gb": restorer.memory_gb if restorer.tile == "auto" else None,
        "tlc_crop": restorer.crop,
        "self_ensemble": bool(restorer.self_ensemble),
        "precision": str(restorer.dtype),
    }
    if restorer.strength != 1:  # so that results of earlier versions stay up to date
        options["strength"] = float(restorer.strength)
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:32]


def _restore_all(
    jobs: Sequence[Job], restorer: Restorer, outputs: Outputs, console: Console, where: str
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

    def write(work: Callable[[], Callable[[], None]]) -> Callable[[], None] | None:
        publish = attempt(work)
        return None if publish is None else partial(attempt, publish)

    started = time.perf_counter()
    # Encoding a PNG file takes longer than restoring it on a GPU.
    writers = 1 if restorer.device.type == "cpu" else max(1, min(cores() - 1, _WRITERS))
    with _Bar(console, len(jobs)) as bar, OrderedExecutor(writers) as writer:
        # While a photo is restored, the next one is read and the previous ones are written.
        for job, source in prefetch((job, attempt(partial(_read, job))) for job in jobs):
            bar.begin(job)
            if source is not None:
                work = attempt(partial(_restore, source, restorer, outputs, bar))
                if work is not None:
                    writer.submit(partial(write, work))
            bar.end()
    done, seconds = len(jobs) - len(failures), time.perf_counter() - started
    print_line(
        console, f"{done} restored in {seconds:.1f} s ({done / seconds:.2f} a second) into {where}"
    )
    return failures


def _read(job: Job) -> Source:
    """Read the file of a job; a video is decoded later, frame by frame."""
    try:
        file = FileState.of(job.source, with_changed=True)
        return Source(job, file, None if job.is_video else read_photo(job.source))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{job.source} can't be read ({reason}): check it") from error


def _restore(
    source: Source, restorer: Restorer, outputs: Outputs, bar: "_Bar"
) -> Callable[[], Callable[[], None]] | None:
    """Restore a photo and return the function that writes it; restore and write a video."""
    if source.photo is None:
        restore_and_write(source, restorer, outputs, bar.move)
        return None
    last_only = not (outputs.stages or outputs.report_has_room)
    *stages, restored = restorer.stages(source.photo.pixels, bar.move, last_only=last_only)
    return partial(outputs.write, source, stages, restored)


class _Bar(Progress):
    """Progress bar over the files and over the tiles or frames of the current file."""

    def __init__(self, console: Console, files: int) -> None:
        super().__init__(
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
        self.files = self.add_task("starting", total=files, speed="")

    def begin(self, job: Job) -> None:
        """Show the name of the current file."""
        self.update(self.files, description=printable(job.name)[-40:])

    def move(self, part: int, parts: int) -> None:
        """Show the progress within the current file."""
        self.update(self.files, completed=self.done + part / max(parts, 1))

    def end(self) -> None:
        """Count the current file as done."""
        self.done += 1
        speed = self.done / (time.perf_counter() - self.started)
        self.update(self.files, completed=self.done, speed=f"{speed:.2f} images/s")
