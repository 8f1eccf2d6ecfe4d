"""Functions that ``mode=prepare`` uses for stores and for shards."""

import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import cores
from mprnet_lit.utils.text import exceeding, printable

Result = TypeVar("Result")


def check_room(folder: Path, needed: int) -> None:
    """Raise UserError if the disk of a folder has fewer than ``needed`` free bytes."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        size, room = exceeding(needed / 1e9, free / 1e9)
        raise UserError(
            f"{folder} needs {size} GB, but its disk has {room} GB free: choose another output or "
            "free disk space"
        )


def run_all(
    functions: Sequence[Callable[[], Result | str]],
    record: Callable[[Result], None],
    console: Console,
) -> list[str]:
    """Call functions in parallel and record each result.

    After an error or a signal, the functions that have not started are skipped.

    Args:
        functions: functions that return a result, or a message for an image that can't be read.
        record: function that records a result.
        console: console of the progress bar.

    Returns:
        Messages, sorted.
    """
    failures: list[str] = []
    stop = threading.Event()

    def call(function: Callable[[], Result | str]) -> Result | str | None:
        return None if stop.is_set() else function()

    with (
        ThreadPoolExecutor(cores()) as pool,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("preparing", total=len(functions))
        futures = [pool.submit(call, function) for function in functions]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                if isinstance(outcome, str):
                    failures.append(outcome)
                elif outcome is not None:
                    record(outcome)
                bar.advance(task)
        finally:
            stop.set()
    return sorted(failures)


def require_none(failures: Iterable[str], what: str) -> None:
    """Raise UserError with all messages if there are any.

    Args:
        failures: one message per failure.
        what: plural noun for the failed items, such as ``images``.
    """
    messages = list(failures)
    if messages:
        lines = "".join(f"\n  {printable(message)}" for message in messages)
        raise UserError(f"{len(messages)} {what} could not be prepared:{lines}")


def failing(check: Callable[[Result], bool], items: Sequence[Result]) -> list[Result]:
    """Return the items for which a check, run in parallel, is false."""
    with ThreadPoolExecutor(cores()) as pool:
        passed = list(pool.map(check, items))
    return [item for item, good in zip(items, passed, strict=True) if not good]
