"""Writing files whole or not at all."""

from contextlib import suppress
from pathlib import Path

from mprnet_lit.errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Write next to the destination first, then rename: a reader never sees half a file.

    Makes the folder.

    Raises:
        UserError: it can't be written; an earlier file stays as it was.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"can't write {path}: {error.strerror or error}; "
            "make room there or choose a folder that can be written"
        ) from error
    finally:
        with suppress(OSError):  # it is gone if all went well
            partial.unlink()
