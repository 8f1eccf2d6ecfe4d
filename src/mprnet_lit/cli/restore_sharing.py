"""Division of the files of mode=restore among all processes that restore into one folder."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from mprnet_lit.cli.restore_inputs import Job
from mprnet_lit.cli.restore_outputs import Outputs
from mprnet_lit.cli.restore_plan import is_restored
from mprnet_lit.utils.claims import Claims, State
from mprnet_lit.utils.errors import UserError


class SharedJobs(AbstractContextManager["SharedJobs"]):
    """Context manager that gives each job to one of the processes that share an output folder.

    A process claims a job, and then reads the record of the folder again, because another process
    may have restored the file since. A claim is released after its result is recorded. Each process
    lists the failures of all.

    Args:
        folder: output folder.
        jobs: jobs of the command.
        outputs: output options with the records.
        since: time in seconds since the epoch, if all jobs are restored again: only later results
            are results of these processes. ``None`` for up-to-date results of any time.

    Attributes:
        left: jobs that are not restored; after :meth:`take`, those that other processes restore.
        failures: messages of the failed jobs of all processes.
        others: jobs that other processes restored.
    """

    def __init__(
        self, folder: Path, jobs: Sequence[Job], outputs: Outputs, since: float | None
    ) -> None:
        self._folder = folder
        self._outputs = outputs
        self._since = since
        self._claims = Claims(folder, outputs.recipe)
        self.left = list(jobs)
        self.failures: list[str] = []
        self.others: list[Job] = []

    def __enter__(self) -> "SharedJobs":
        self._claims.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._claims.__exit__(kind, error, trace)

    def take(self, *, videos: bool) -> Iterator[Job]:
        """Claim and yield the photos, or the videos, that are left.

        Raises:
            UserError: another process restores a job with other weights or options.
        """
        jobs = [job for job in self.left if job.is_video == videos]
        self.left = [job for job in self.left if job.is_video != videos]
        for job in jobs:
            name = self._name(job.destination)
            # A process that is about to release its claim still removes its temporary files.
            if self._is_restored(job) and self._claims.is_free(name):
                self.others.append(job)
                continue
            try:
                state, message = self._claims.take(name)
            except UserError as error:
                self.failures.append(str(error))
                continue
            if state == State.CONFLICT:
                raise UserError(
                    f"another command restores {job.destination} with other weights or options: "
                    "wait until it ends, or choose another output"
                )
            if state == State.BUSY:
                self.left.append(job)
            elif state == State.FAILED:
                self.failures.append(message)
            else:
                self._outputs.records.of(job.destination.parent).refresh()
                if self._is_restored(job):
                    self.finish(job)
                    self.others.append(job)
                else:
                    yield job

    def finish(self, job: Job) -> None:
        """Release the claim of a job whose result is recorded."""
        self._claims.release(self._name(job.destination))

    def fail(self, job: Job, message: str) -> None:
        """Record that a job failed."""
        self.failures.append(message)
        self._claims.fail(self._name(job.destination), message)

    def takes_report(self, page: Path) -> bool:
        """Return whether this process is the one that writes the report."""
        return self._claims.take(self._name(page))[0] == State.MINE

    def _is_restored(self, job: Job) -> bool:
        record = self._outputs.records.of(job.destination.parent)
        return is_restored(job, self._outputs.recipe, record, self._since)

    def _name(self, path: Path) -> str:
        """Return the name of a claim, which is the same for each spelling of the folder."""
        is_inside = path.is_relative_to(self._folder)
        return (path.relative_to(self._folder) if is_inside else path).as_posix()
