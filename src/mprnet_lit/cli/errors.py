"""Error messages of the command line, one sentence per exception."""

import errno
import os
import sys
from typing import NoReturn

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mprnet_lit.config.messages import explain
from mprnet_lit.utils import temp_folder
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.mirror import readable
from mprnet_lit.utils.text import printable_lines

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def explain_error(error: Exception, mode: str) -> str | None:
    """Return the error message for an exception or its cause; ``None`` for a bug."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            # Workers add a traceback.
            return readable(str(link).rpartition("UserError: ")[2].strip())
        if clause := temp_folder.temp_folder_problem(link):
            return f"{clause}: make room there, or set TMPDIR to a writable folder"
        if isinstance(link, OSError) and link.filename is not None:
            return f"can't use {link.filename}: {link.strerror}"
        if isinstance(link, OSError) and link.errno in _DISK_FULL:
            return f"can't write: {link.strerror}; make room, or set paths.runs to another disk"
        if type(link).__name__ == "MisconfigurationException":  # raised by Lightning
            return str(link)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error, mode)
    return None


def fail(sentence: str, status: int = 1) -> NoReturn:
    """Print an error message, once per machine, and end the process."""
    rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID")
    if rank in (None, "", "0"):
        print(f"Error: {printable_lines(mask_text(sentence))}", file=sys.stderr)
    raise SystemExit(status)
