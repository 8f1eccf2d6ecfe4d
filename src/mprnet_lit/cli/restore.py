"""``mode=restore``: restore photos and videos of any size, in their own file format."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TypeVar

import torch
from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.cli import common as arguments
from mprnet_lit.cli.restore_bar import ProgressBar
from mprnet_lit.cli.restore_inputs import Job, find_jobs
from mprnet_lit.cli.restore_outputs import Outputs, Source
from mprnet_lit.cli.restore_places import Target, local_inputs
from mprnet_lit.cli.restore_plan import Plan, check_report, make_plan
from mprnet_lit.cli.restore_processes import Process, device_count, other_devices, this_process
from mprnet_lit.cli.restore_sharing import SharedJobs
from mprnet_lit.cli.restore_video import restore_and_write
from mprnet_lit.cli.restorer import build_restorer
from mprnet_lit.images.memory import decoded_bytes
from mprnet_lit.images.photo import read_photo
from mprnet_lit.inference import Restorer
from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import FileState, file_digest
from mprnet_lit.utils.hardware import core_share, free_bytes
from mprnet_lit.utils.prefetch import OrderedExecutor, map_ahead
from mprnet_lit.utils.text import printable
from mprnet_lit.utils.url import shown
from mprnet_lit.weights import SHIPPED

T = TypeVar("T")

_PHOTO_BYTES = 1e9
"""Maximum memory of the photos that are read ahead, and of those that are being written."""


def run(config: DictConfig) -> None:
    """Restore the photos and videos of ``input`` into ``output``; skip up-to-date results.

    Raises:
        UserError: an option is invalid, a result would overwrite another file, another command
            restores the same file with other options, or some files could not be restored. In the
            last case all other files are restored first, and only the first process of a launcher
            raises the error: after an error, torchrun stops the other processes.
    """
    process, console = this_process(), Console()
    count = device_count(config, process)
    devices: AbstractContextManager[None] = nullcontext()
    if count > 1:
        process = replace(process, count=count)
        devices = other_devices(config, process, console)
    failures, number = restore_files(config, process, console, devices)
    if failures and process.rank == 0:
        lines = "".join(f"\n  {printable(failure)}" for failure in failures)
        raise UserError(f"{len(failures)} of {number} files could not be restored:{lines}")


def restore_files(
    config: DictConfig,
    process: Process,
    console: Console,
    devices: AbstractContextManager[None] | None = None,
) -> tuple[list[str], int]:
    """Restore files in this process until all are restored, by this process or by others.

    Args:
        config: configuration of the command.
        process: place of this process; the first process prints the settings and the summary.
        console: console to print on.
        devices: context manager of the processes for the other devices.

    Returns:
        Messages of the files that could not be restored, and number of the files to restore.

    Raises:
        UserError: an option is invalid, a result would overwrite another file, or another command
            restores the same file with other options.
    """
    options, note = config.restore, partial(print_line, console)

    def say(line: str) -> None:
        if process.rank == 0:
            note(line)

    kinds = ["stage1", "stage2"] * options.stages + ["compare"] * options.compare
    destination = arguments.place(config, "output")
    target = Target(destination)
    jobs = find_jobs(local_inputs(arguments.inputs(config), destination), target.local, kinds, say)
    restorer = build_restorer(config, device=process.device(str(config.inference.device)))
    if process.count > 1 and restorer.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, core_share(process.count)[0]))
    if process.rank == 0:
        print_table(console, restorer.settings)
    if config.weights is None:
        others = " or ".join(name for name in SHIPPED if name != config.task.name)
        say(f"Using the small weights in the package; for another task, add task={others}")
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
    folder = output.parent if jobs[0].destination == output else output
    page = folder / "report.html"
    if options.report:
        check_report(page, outputs.records, overwrite=config.overwrite)
    target.check(jobs, page if options.report else None, overwrite=config.overwrite)
    plan = make_plan(jobs, outputs.recipe, outputs.records, overwrite=config.overwrite)
    _tell_plan(plan, say)
    for job in plan.done:
        outputs.show_done(job)
    settings = {"results in": shown(destination)} | restorer.settings
    if not plan.todo:
        if options.report:
            outputs.write_report(page, settings)
        return [], 0
    since = process.started if config.overwrite else None
    with SharedJobs(folder, plan.todo, outputs, since) as shared, devices or nullcontext():
        seconds = _restore_all(shared, restorer, outputs, console, process)
        for job in shared.others if process.rank == 0 else ():
            outputs.show_done(job)
        if options.report and process.rank == 0 and shared.takes_report(page):
            outputs.write_report(page, settings)
    done = len(plan.todo) - len(shared.failures)
    by_others = f", {len(shared.others)} of them by other processes" * bool(shared.others)
    rate = f"{done} restored in {seconds:.1f} s ({done / seconds:.2f} a second)"
    say(f"{rate} into {shown(destination)}{by_others}")
    return shared.failures, len(plan.todo)


def _tell_plan(plan: Plan, say: Callable[[str], None]) -> None:
    """Print how many results are up to date, and how many are replaced."""
    count = len(plan.done) + len(plan.todo)
    if plan.done:
        done = f"{len(plan.done)} of {count}"
        say(f"{done} are already restored (overwrite=true restores them again)")
    if plan.again:
        changed = "the photo, the weights or the options changed"
        say(f"Replacing {plan.again} of {count} results: {changed}")


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
    shared: SharedJobs, restorer: Restorer, outputs: Outputs, console: Console, process: Process
) -> float:
    """Restore photos and videos until no process has any left; return the time in seconds."""

    def attempt(job: Job, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except UserError as error:
            shared.fail(job, str(error))
            print_line(console, f"Failed: {error}")  # above the progress bar
            return None

    def read(job: Job, largest: float = inf) -> tuple[Job, Source | None]:
        return job, attempt(job, partial(_read, job, largest))

    def write(job: Job, work: Callable[[], Callable[[], None]]) -> Callable[[], None] | None:
        publish = attempt(job, work)
        return None if publish is None else partial(attempt, job, partial(complete, job, publish))

    def complete(job: Job, publish: Callable[[], None]) -> None:
        publish()
        shared.finish(job)

    started, wait = time.perf_counter(), 0.1
    workers = max(1, core_share(process.count)[0])
    free = free_bytes(torch.device("cpu")) / process.count
    ahead = partial(read, largest=free / 32)
    with (
        ProgressBar(console, len(shared.left), visible=process.rank == 0) as bar,
        OrderedExecutor(workers, limit := min(_PHOTO_BYTES, free / 8)) as writer,
    ):

        def restore(job: Job, source: Source | None) -> None:
            bar.begin(job, len(shared.others))
            if source is not None and source.photo is None and not job.is_video:  # a large photo
                writer.wait()
                source = read(job)[1]
            if source is not None:
                work = attempt(job, partial(_restore, source, restorer, outputs, bar))
                if work is not None:
                    held = 0 if source.photo is None else 3 * source.photo.pixels.nbytes
                    writer.submit(partial(write, job, work), held)
            bar.end()

        while left := len(shared.left):
            # While a photo is restored, the next ones are read and the previous ones are written.
            photos = map_ahead(ahead, shared.take(videos=False), workers, _size, limit)
            with closing(photos):
                for photo in photos:
                    restore(*photo)
            for video in shared.take(videos=True):  # not ahead: other devices restore the next one
                restore(*read(video))
            wait = 0.1 if len(shared.left) < left else min(2 * wait, 2)
            if shared.left:
                time.sleep(wait)
    return time.perf_counter() - started


def _size(job: Job) -> int:
    """Return the size in bytes of the decoded photo of a job, which is read before its turn."""
    return 0 if job.is_video else decoded_bytes(job.source)


def _read(job: Job, largest: float) -> Source:
    """Read the file of a job, but neither a video nor a decoded photo over ``largest`` bytes.

    The frames of a video are decoded one after another. A large photo is read at its turn, when the
    memory of the other photos is free.
    """
    try:
        file = FileState.of(job.source, with_changed=True)
        later = job.is_video or (largest < inf and _size(job) > largest)
        return Source(job, file, None if later else read_photo(job.source))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{job.source} can't be read ({reason}): check it") from error


def _restore(
    source: Source, restorer: Restorer, outputs: Outputs, bar: ProgressBar
) -> Callable[[], Callable[[], None]]:
    """Restore a photo and return the function that writes it; restore and write a video."""
    if source.photo is None:
        restore_and_write(source, restorer, outputs, bar.move)
        return lambda: lambda: None
    last_only = not (outputs.stages or outputs.report_has_room)
    *stages, restored = restorer.stages(source.photo.pixels, bar.move, last_only=last_only)
    return partial(outputs.write, source, stages, restored)
