"""Overrides that name files: quoted where Hydra would read something else than the file's name."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException

from mprnet_lit.config.messages import quoted

_FILES = re.compile(
    r"\+{0,2}(input|output|target|weights|resume|paths\.\w+|hydra\.(run|sweep)\.dir|"
    r"[\w.]+\.(root|folder|degraded|target))"
)
"""The keys whose values are names of files or folders."""
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool)\(")


def exists(name: str) -> bool:
    """Tell whether a file or folder of this name exists, whatever characters the name has."""
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # too long, say
        return False


def expanded(name: str) -> str:
    """Return a name with ``~`` replaced by the user's folder, as a shell does."""
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError:  # no such user
        return name


def sweeps(flags: Sequence[str], overrides: Sequence[str]) -> bool:
    """Tell whether a command runs once for each of several values."""
    if not {"-m", "--multirun"}.isdisjoint(flags):
        return True
    chosen = dict(override.partition("=")[::2] for override in overrides)
    return chosen.get("hydra.mode") == "MULTIRUN" or chosen.get("sweep", "null") != "null"


def quote_files(override: str, *, sweep: bool) -> str:
    """Return an override that Hydra reads as the name of the file that a person means.

    Several inputs with commas between them become a list, except in a sweep over them. What Hydra
    reads as it stands is returned unchanged.

    Args:
        override: ``KEY=VALUE``.
        sweep: the command is a sweep.
    """
    key, _, value = override.partition("=")
    if not value or value in ("null", "auto") or not _FILES.fullmatch(key):
        return override
    read = _parsed(override)
    if value[0] in "\"'" and read is not None:
        return override
    path = expanded(value)
    if exists(path):
        as_it_stands = read is not None and read.value() == path and "${" not in path
        return override if as_it_stands else f"{key}={quoted(path)}"
    if key == "input" and not sweep and (items := _list(value, read)):
        return f"{key}={items}"
    if read is None:
        return override if _is_structure(value) else f"{key}={quoted(path)}"
    if isinstance(read.value(), int | float):
        return f"{key}={quoted(path)}"
    return override


def _parsed(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError, ValueError):  # Hydra meets it again, and it is reported
        return None


def _list(value: str, read: Override | None) -> str | None:
    """Return several names with commas between them as a list; ``None`` for another value."""
    if read is not None:
        return f"[{value}]" if read.value_type == ValueType.SIMPLE_CHOICE_SWEEP else None
    inner = value[1:-1] if value[0] == "[" and value[-1] == "]" else value
    paths = [expanded(path.strip()) for path in inner.split(",")]
    if not all(exists(path) for path in paths):
        return None
    return f"[{','.join(map(quoted, paths))}]"


def _is_structure(value: str) -> bool:
    """Tell whether a value that Hydra can't read was meant as a list, a function or the like."""
    enclosed = value[0] + value[-1] in ("[]", "{}")
    signs = value[0] in "\"'" or "," in value or "${" in value
    return enclosed or signs or _FUNCTION.match(value) is not None
