"""Writing files whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from mprnet_lit.errors import UserError


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
        with partial.open("wb") as file:
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
