"""Prefetching and background writing, to overlap decoding, computation and encoding.

Threads suffice, as decoders, encoders, zlib and torch release the GIL.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")
_END = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """Yield the items of an iterable, and compute the next item in a background thread.

    One item is prefetched. An error of the iterable is raised after all earlier items are yielded.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "prefetch") as pool:
        upcoming = pool.submit(next, source, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = pool.submit(next, source, _END)
            yield cast(T, item)


class SerialExecutor:
    """Context manager that runs one job at a time in a background thread, in order.

    Leaving the context waits for the last job. An error of a job is raised by the next call of
    :meth:`submit` or :meth:`wait`, or on leaving the context.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "serial_executor")
        self._last: Future[Any] | None = None

    def submit(self, job: Callable[[], Any]) -> None:
        """Start a job after the previous job has finished, and raise the error of that job."""
        self.wait()
        self._last = self._pool.submit(job)

    def wait(self) -> None:
        """Wait for the current job, and raise its error."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()
