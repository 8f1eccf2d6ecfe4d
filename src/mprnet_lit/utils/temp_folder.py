"""Fallback for the temporary folder, on machines where the default folders are read-only."""

import os
import sys
import tempfile
from pathlib import Path

FALLBACK = Path("/dev/shm")
"""Folder that is usually writable in a read-only container."""


def ensure_temp_folder(fallback: Path = FALLBACK) -> None:
    """Set ``TMPDIR`` to a fallback if no default temporary folder is writable, and print a warning.

    Libraries need temporary files for caches and for sockets between processes. Child processes
    inherit the setting. If the fallback is not writable either, ``TMPDIR`` stays unchanged.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        before = {key: os.environ[key] for key in ("TMPDIR",) if key in os.environ}
        os.environ["TMPDIR"] = str(fallback)
        try:
            found = tempfile.gettempdir()
        except FileNotFoundError:
            del os.environ["TMPDIR"]
            os.environ.update(before)
        else:
            problem = temp_folder_problem(error)
            print(f"Warning: {problem}: temporary files go to {found}", file=sys.stderr, flush=True)


def temp_folder_problem(error: BaseException) -> str | None:
    """Return a message if an error means that no temporary folder is writable, else ``None``."""
    message = str(error)
    if not (isinstance(error, FileNotFoundError) and "No usable temporary directory" in message):
        return None
    folders = message.partition("[")[2].rpartition("[")[2].rstrip("]").replace("'", "")
    return f"no folder for temporary files is writable ({folders})"
