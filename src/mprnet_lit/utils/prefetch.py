"""Prefetching and background writing, to overlap decoding, computation and encoding.

Threads suffice, as decoders, encoders, zlib and torch release the GIL.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")
_END = object()


def prefetch(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """Yield the items of an iterable, and compute the next items in a background thread.

    An error of the iterable is raised after all earlier items are yielded.

    Args:
        items: iterable.
        depth: number of items that are prefetched.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as pool:
        upcoming = deque(pool.submit(next, source, _END) for _ in range(depth))
        try:
            while (item := upcoming.popleft().result()) is not _END:
                upcoming.append(pool.submit(next, source, _END))
                yield cast(T, item)
        finally:
            for future in upcoming:
                future.cancel()


class OrderedExecutor:
    """Context manager that runs jobs in background threads and completes them in order.

    The jobs run in parallel. A job may return a function that completes it; these functions run
    one at a time, in the order of the jobs. Leaving the context waits for all jobs. An error of a
    job is raised by a later call of :meth:`submit`, or on leaving the context.

    Args:
        workers: maximum number of unfinished jobs.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._jobs = ThreadPoolExecutor(workers, "job")
        self._completions = ThreadPoolExecutor(1, "completion")
        self._unfinished: deque[Future[None]] = deque()

    def submit(self, job: Callable[[], Callable[[], Any] | None]) -> None:
        """Start a job; wait for the oldest job first if ``workers`` jobs are unfinished."""
        while len(self._unfinished) >= self._workers:
            self._unfinished.popleft().result()
        self._unfinished.append(self._completions.submit(_complete, self._jobs.submit(job)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._jobs.shutdown()
        self._completions.shutdown()
        if error is None:
            for job in self._unfinished:
                job.result()


def _complete(running: Future[Callable[[], Any] | None]) -> None:
    completion = running.result()
    if completion is not None:
        completion()
