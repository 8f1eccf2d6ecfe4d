"""Version of the formats of checkpoints, weights files and run folders."""

from collections.abc import Mapping
from typing import Any

from mprnet_lit.utils.errors import UserError

FORMAT = 2
"""Format of new files and newest readable format. Release 0.1 wrote no format number."""


def check_format(path: Any, record: Any) -> None:
    """Raise UserError if the ``format`` in the content of a file is newer than this version."""
    found = record.get("format") if isinstance(record, Mapping) else None
    if isinstance(found, int) and found > FORMAT:
        raise UserError(
            f"{path} has format {found}, and this version of mprnet_lit reads formats up to "
            f"{FORMAT}: upgrade mprnet_lit"
        )
