"""Plan of mode=restore: up-to-date results, remaining jobs, and protection of other files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mprnet_lit.cli.restore_inputs import Job
from mprnet_lit.cli.restore_record import Record, Records, Result
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import FileState

_SHOWN = 10
"""Maximum number of files in an error message."""
_NO_RECORD = "is in a folder without a record of results (earlier versions wrote none)"


@dataclass(frozen=True)
class Plan:
    """Jobs with up-to-date results, jobs to run, and the number of results to replace."""

    done: list[Job]
    todo: list[Job]
    again: int


def make_plan(jobs: Sequence[Job], recipe: str, records: Records, *, overwrite: bool) -> Plan:
    """Compare jobs with the records of their output folders.

    A result is up to date if the content of its source, the weights and the options match the
    record, and the result itself is unchanged. A job may replace a result of the same photo (by
    path or content). With ``overwrite``, all jobs run and replace all existing files.
    """
    done: list[Job] = []
    todo: list[Job] = []
    again = 0
    conflicts: list[str] = []
    confirmed: dict[Record, list[Result]] = {}
    for job in jobs:
        record = records.of(job.destination.parent)
        source = record.relative(records.real(job.source))
        result = record.find(job.destination.name)
        if result is None and not overwrite and any(map(os.path.lexists, job.files)):
            record.refresh()  # another process may have written the files since
            result = record.find(job.destination.name)
        if overwrite:
            todo.append(job)
        elif result is not None and _is_done(job, recipe, result):
            done.append(job)
            if (fresh := _refreshed(job, source, result)) is not None:
                confirmed.setdefault(record, []).append(fresh)
        else:
            todo.append(job)
            again += result is not None
            conflicts += _conflicts(job.files, job.source, source, record)
    _refuse(conflicts)
    for record, results in confirmed.items():
        record.append(results)
    return Plan(done, todo, again)


def is_restored(job: Job, recipe: str, record: Record, since: float | None) -> bool:
    """Return whether the recorded result of a job is up to date.

    Args:
        job: photo or video.
        recipe: digest of the weights and options.
        record: record of the output folder.
        since: time in seconds since the epoch; older results are not up to date. ``None`` for
            results of any time.
    """
    result = record.find(job.destination.name)
    if result is None or not _is_done(job, recipe, result):
        return False
    return since is None or result.files[job.destination.name].modified >= since * 1e9


def check_report(path: Path, records: Records, *, overwrite: bool) -> None:
    """Check that the report does not overwrite a file that is not a report of an earlier call."""
    if overwrite or not os.path.lexists(path):
        return
    record = records.of(path.parent)
    if record.find(path.name) is None:
        what = "is not a report of mprnet_lit" if record.exists else _NO_RECORD
        _refuse([f"{path} {what}, and the report would overwrite it"])


def _is_done(job: Job, recipe: str, result: Result) -> bool:
    """Return whether the result of a job and its additional images are up to date."""
    files = result.files
    return (
        result.recipe == recipe
        and result.photo is not None
        and all(p.name in files and files[p.name].matches(p) for p in job.files[1:])
        and result.photo.matches(job.source)
    )


def _refreshed(job: Job, source: str, result: Result) -> Result | None:
    """Return a result with the current paths and times; ``None`` if all are unchanged."""
    if (
        result.source == source
        and result.photo is not None
        and result.photo.is_untouched(job.source)
        and all(result.files[path.name].is_untouched(path) for path in job.files)
    ):
        return None
    files = {path.name: FileState.of(path) for path in job.files}
    photo = FileState.of(job.source, with_changed=True)
    return replace(result, source=source, photo=photo, files={**result.files, **files})


def _conflicts(files: Sequence[Path], origin: Path, source: str, record: Record) -> Iterator[str]:
    """Yield a message for each existing file that is not a result of this photo."""
    for path in files:
        if not os.path.lexists(path):
            continue
        result = record.find(path.name)
        if result is None:
            changed = "is not a result of mprnet_lit, or was changed since"
            what = changed if record.exists else _NO_RECORD
            yield f"{path} {what}, and the result of {origin} would overwrite it"
        elif result.source != source and not (result.photo and result.photo.matches(origin)):
            other = _shown(record.path_of(result))
            yield f"{path} is the result of {other}, and the result of {origin} would overwrite it"


def _shown(path: Path) -> Path:
    """Return a path relative to the current folder if it is inside, else unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _refuse(conflicts: Sequence[str]) -> None:
    """Raise UserError if there are any conflicts."""
    advice = "set another output, or add overwrite=true to replace"
    if len(conflicts) == 1:
        raise UserError(f"{conflicts[0]}: {advice} it")
    if conflicts:
        lines = [f"{len(conflicts)} files would be overwritten: {advice} them"]
        lines += [f"  {line}" for line in conflicts[:_SHOWN]]
        if len(conflicts) > _SHOWN:
            lines.append(f"  and {len(conflicts) - _SHOWN} more")
        raise UserError("\n".join(lines))
