"""Progress of ``mode=prepare``: a file with the records of the complete files, as JSON lines."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mprnet_lit.utils.atomic import write_atomic, write_errors
from mprnet_lit.utils.errors import UserError

Record = TypeVar("Record")


def start_progress(path: Path, complete: Iterable[Any], index: Path) -> None:
    """Write the records of the complete files, data classes, into ``path``; delete the index."""
    write_atomic(path, "".join(_line(record) for record in complete).encode())
    index.unlink(missing_ok=True)


def append_progress(record: Any, path: Path) -> None:
    """Append the record of a complete file to a progress file."""
    with write_errors(path), path.open("a", encoding="utf-8") as progress:
        progress.write(_line(record))


def read_progress(path: Path, kind: Callable[..., Record]) -> list[Record]:
    """Return the records of a progress file, without a line that a killed process cut off.

    Args:
        path: progress file, which may be missing.
        kind: class of the records, which raises TypeError or ValueError for a wrong record.
    """
    found: list[Record] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(kind(**json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                continue
    return found


def refuse_links(folders: Iterable[Path]) -> None:
    """Raise UserError for a symbolic link, which would change files elsewhere."""
    for folder in folders:
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a symbolic link: remove it or choose another output folder"
            )


def _line(record: Any) -> str:
    return json.dumps(asdict(record)) + "\n"
