"""Version of the formats of checkpoints, weights files and run folders."""

from collections.abc import Mapping
from typing import Any

from mprnet_lit.utils.errors import UserError

FORMAT = 2
"""Format that this version writes, and newest format that it reads. Release 0.1 wrote no number."""


def check_format(path: Any, record: Any) -> None:
    """Raise UserError if the ``format`` in the content of a file is newer than this version."""
    found = record.get("format") if isinstance(record, Mapping) else None
    if isinstance(found, int) and found > FORMAT:
        raise UserError(
            f"{path} has format {found}, and this version of mprnet_lit reads formats up to "
            f"{FORMAT}: upgrade mprnet_lit"
        )
