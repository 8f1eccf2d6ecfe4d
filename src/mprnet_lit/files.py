"""Writing files whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from mprnet_lit.errors import UserError


def require_regular(path: Path, most_bytes: float | None = None) -> None:
    """Refuse what is there but no file, as reading a pipe might never end, and what is too large.

    Raises:
        UserError: it is.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is a pipe or a device and not a file: remove it or name a file")
    if most_bytes is not None and path.is_file() and path.stat().st_size > most_bytes:
        raise UserError(
            f"{path} has over {most_bytes / 1e9:.1f} GB, which is too much: check the path, or "
            "remove it if it is a trap"
        )


def write_whole(
    path: Path,
    content: bytes | memoryview,
    what: str = "",
    advice: str = "make room there or choose a folder that can be written",
) -> None:
    """Write next to the destination first, then rename: a reader never sees half a file.

    Makes the folder. ``what`` the file is and the ``advice`` go into the message.

    Raises:
        UserError: it can't be written; an earlier file stays as it was.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # left by a kill; a link is not to be written through
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the new name and no content
        partial.replace(path)
    except OSError as error:
        name = f"{what} {path}".strip()
        raise UserError(f"can't write {name}: {error.strerror or error}; {advice}") from error
    finally:
        with suppress(OSError):  # it is gone if all went well
            partial.unlink()
