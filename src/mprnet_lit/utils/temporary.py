"""Temporary files on machines where the usual folders can't be written."""

import os
import sys
import tempfile
from pathlib import Path

FALLBACK = Path("/dev/shm")
"""Folder that a read-only container usually can write."""


def provide(fallback: Path = FALLBACK) -> None:
    """Have temporary files go to ``fallback`` if no usual folder can be written, and say so.

    Libraries need them: for sockets between processes, for caches. What this process starts gets
    the same folder. Where ``fallback`` can't be written either, nothing is changed.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(fallback)
        try:
            found = tempfile.gettempdir()
        except FileNotFoundError:
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before
            return
        print(
            f"Warning: {without_folder(error)}: temporary files go to {found}",
            file=sys.stderr,
            flush=True,
        )


def without_folder(error: BaseException) -> str | None:
    """Return a clause on the folders that can't be written; ``None`` for another error."""
    said = str(error)
    if not (isinstance(error, FileNotFoundError) and "No usable temporary directory" in said):
        return None
    folders = said.partition("[")[2].rpartition("[")[2].rstrip("]").replace("'", "")
    return f"no folder for temporary files can be written ({folders})"
