"""Prefetching and background writing, to overlap decoding, computation and encoding.

Threads suffice, as decoders, encoders, zlib and torch release the GIL.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")
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


def map_ahead(
    function: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    cost: Callable[[T], float] = lambda item: 0,
    limit: float = inf,
) -> Generator[R, None, None]:
    """Yield the function of each item, in order, computed ahead in background threads.

    At first, one result is computed ahead. The number grows by one, up to ``workers``, when the
    caller has to wait, so that a slow caller holds few results. Leaving the iterator cancels the
    results that are not started, and waits for the others.

    Args:
        function: function that is called in background threads.
        items: arguments of the function, iterated by the caller's thread.
        workers: maximum number of results that are computed ahead.
        cost: memory of a result, for example in bytes.
        limit: maximum total cost of the results that are computed ahead, unless there is only one.
    """
    source, pool = iter(items), ThreadPoolExecutor(workers, "prefetch")
    results: deque[tuple[Future[R], float]] = deque()
    waiting: list[tuple[T, float]] = []  # the next item, if it is over the limit
    ahead = 1

    def fill() -> None:
        while len(results) < ahead:
            if not waiting:
                item = next(source, _END)
                if item is _END:
                    return
                waiting.append((cast(T, item), cost(cast(T, item))))
            if results and sum(held for _, held in results) + waiting[0][1] > limit:
                return
            argument, held = waiting.pop()
            results.append((pool.submit(function, argument), held))

    try:
        fill()
        while results:
            if not results[0][0].done() and ahead < workers:
                ahead += 1
                fill()
            result = results.popleft()[0].result()
            fill()
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


class OrderedExecutor:
    """Context manager that runs jobs in background threads and completes them in order.

    The jobs run in parallel. A job may return a function that completes it; these functions run
    one at a time, in the order of the jobs. Leaving the context waits for all jobs. An error of a
    job is raised by a later call of :meth:`submit`, or on leaving the context; no later job is
    completed.

    Args:
        workers: maximum number of unfinished jobs.
        limit: maximum total cost of the unfinished jobs, unless there is only one.
    """

    def __init__(self, workers: int = 1, limit: float = inf) -> None:
        self._workers = workers
        self._limit = limit
        self._jobs = ThreadPoolExecutor(workers, "job")
        self._completions = ThreadPoolExecutor(1, "completion")
        self._unfinished: deque[tuple[Future[None], float]] = deque()
        self._has_failed = False

    def submit(self, job: Callable[[], Callable[[], Any] | None], cost: float = 0) -> None:
        """Start a job; wait for the oldest jobs first if too many are unfinished."""
        while self._unfinished and (
            len(self._unfinished) >= self._workers
            or sum(held for _, held in self._unfinished) + cost > self._limit
        ):
            self._unfinished.popleft()[0].result()
        completion = self._completions.submit(self._complete, self._jobs.submit(job))
        self._unfinished.append((completion, cost))

    def wait(self) -> None:
        """Wait for all jobs."""
        while self._unfinished:
            self._unfinished.popleft()[0].result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._jobs.shutdown()
        self._completions.shutdown()
        if error is None:
            self.wait()

    def _complete(self, running: Future[Callable[[], Any] | None]) -> None:
        try:
            completion = running.result()
            if completion is not None and not self._has_failed:
                completion()
        except BaseException:
            self._has_failed = True
            raise
