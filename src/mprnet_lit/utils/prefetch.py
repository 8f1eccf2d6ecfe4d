"""Reading ahead and writing behind, so that decoding, computing and encoding go on at once.

Threads suffice: decoders, encoders, zlib and torch let go of the interpreter while they work.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield ``items``, each of them made in a thread while the one before is being used.

    One item is held besides that in use. What making an item raises is raised where it is due.
    """
    source = iter(items)

    def take() -> object:
        return next(source, _END)

    with ThreadPoolExecutor(1, "ahead") as pool:
        following = pool.submit(take)
        while (item := following.result()) is not _END:
            following = pool.submit(take)
            yield cast(T, item)


class Behind:
    """Runs jobs in a thread, in order, while the caller goes on; at most one at a time.

    :meth:`run` waits for the job before and raises what that one raised; leaving the context waits
    for the last.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "behind")
        self._last: Future[Any] | None = None

    def run(self, job: Callable[[], Any]) -> None:
        """Begin ``job`` once the one before is done."""
        self.wait()
        self._last = self._pool.submit(job)

    def wait(self) -> None:
        """Wait for the job in hand; raises what it raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        if error is None:
            self.wait()
