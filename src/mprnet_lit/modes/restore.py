"""``mode=restore``: restore photos and videos, whatever their size, and keep their kind."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from mprnet_lit.data.images import to_float, to_uint8, write_png
from mprnet_lit.data.jobs import Job, find_jobs
from mprnet_lit.data.photo import Photo, read_photo, write_photo
from mprnet_lit.data.video import restore_video
from mprnet_lit.errors import UserError
from mprnet_lit.inference import Restorer, from_config
from mprnet_lit.tracking.report import Entry, write_report

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
    restorer = from_config(config)
    for name, value in restorer.settings.items():
        console.print(f"{name:>14}  {value}", highlight=False, soft_wrap=True, markup=False)
    if config.stages and str(config.weights).endswith(".onnx"):
        raise UserError("stages=true: an exported network has its last stage alone; leave it out")
    outputs = _Outputs(config.stages, config.compare, config.report)
    failures: list[str] = []
    started = time.perf_counter()
    with _Bar(console, len(todo)) as bar:
        for job in todo:
            bar.begin(job)
            try:
                _restore(job, restorer, outputs, bar)
            except UserError as error:
                failures.append(str(error))
                bar.say(f"Failed: {error}")
            bar.end()
    done, seconds = len(todo) - len(failures), time.perf_counter() - started
    console.print(
        f"{done} restored in {seconds:.1f} s ({done / seconds:.2f} a second) into {config.output}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
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


def _restore(job: Job, restorer: Restorer, outputs: _Outputs, bar: "_Bar") -> None:
    if job.is_video:
        restore_video(job.source, job.destination, restorer, bar.move)
        return
    photo = read_photo(job.source)
    if not (outputs.stages or outputs.shown):
        restored = restorer(photo.pixels, bar.move)
        stages: list[NDArray[Any]] = []
    else:
        x = torch.from_numpy(to_float(photo.pixels)).permute(2, 0, 1)[None]
        images = [_quantise(s, photo) for s in restorer.restore(x, progress=bar.move)]
        stages, restored = images[:-1], images[-1]
    write_photo(job.destination, replace(photo, pixels=restored))
    if outputs.stages:
        for number, stage in enumerate(stages, start=1):
            write_png(_beside(job, f"stage{number}"), stage)
    if outputs.compare:
        write_png(_beside(job, "compare"), np.concatenate((photo.pixels, restored), 1))
    outputs.photos += 1
    if outputs.shown:
        before, after, *shown = (_centre(p) for p in (photo.pixels, restored, *stages))
        height, width = restored.shape[:2]
        cut = max(height, width) > _LARGEST
        name = f"{job.name} (centre of {width} x {height})" if cut else job.name
        outputs.entries.append(Entry(name, before, after, stages=tuple(shown)))


def _quantise(stage: Tensor, photo: Photo) -> NDArray[Any]:
    dtype = photo.pixels.dtype
    peak = np.iinfo(dtype).max
    return (stage[0].permute(1, 2, 0).clamp(0, 1) * peak).round().numpy().astype(dtype)


def _centre(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return what a report page has room for, so that no more is held: 8 bits, 1024 pixels."""
    top, left = (max(side - _LARGEST, 0) // 2 for side in pixels.shape[:2])
    pixels = pixels[top : top + _LARGEST, left : left + _LARGEST].copy()
    return pixels if pixels.dtype == np.uint8 else to_uint8(to_float(pixels))


def _beside(job: Job, what: str) -> Path:
    return job.destination.with_name(f"{job.destination.name}.{what}.png")


def _report(output: Path, restorer: Restorer, outputs: _Outputs) -> None:
    folder = output if output.is_dir() else output.parent
    summary: Sequence[Sequence[str]] = [["photos", "shown"]]
    summary = [*summary, [str(outputs.photos), str(len(outputs.entries))]]
    write_report(
        folder / "report.html",
        "Restored photos",
        restorer.settings,
        summary,
        outputs.entries,
        omitted=outputs.photos - len(outputs.entries),
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
        self.console, self.files, self.done = console, files, 0
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

    def say(self, sentence: str) -> None:
        """Print a line above the bar."""
        self.console.print(sentence, highlight=False, soft_wrap=True, markup=False)
