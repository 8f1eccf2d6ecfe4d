"""Quoting of overrides with file names, so that Hydra parses the exact name."""

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
"""Keys whose values are files or folders."""
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""Start of an absolute Windows path, whose backslashes do not escape characters."""
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool)\(")


def exists(name: str) -> bool:
    """Return whether a file or folder exists; False for invalid names."""
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):  # for example, too long
        return False


def expanded(name: str) -> str:
    """Return a path with a leading ``~`` expanded to the home directory."""
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError:  # unknown user
        return name


def sweeps(flags: Sequence[str], overrides: Sequence[str]) -> bool:
    """Return whether a command is a sweep."""
    if not {"-m", "--multirun"}.isdisjoint(flags):
        return True
    chosen = dict(override.partition("=")[::2] for override in overrides)
    return chosen.get("hydra.mode") == "MULTIRUN" or chosen.get("sweep", "null") != "null"


def quote_files(override: str, *, sweep: bool) -> str:
    """Quote the file name in an override unless Hydra parses the name unchanged.

    Comma-separated inputs become a list, except in a sweep. Other overrides are returned unchanged.
    """
    key, _, value = override.partition("=")
    if not value or value in ("null", "auto") or not _FILES.fullmatch(key):
        return override
    parsed = _parse(override)
    if value[0] in "\"'" and parsed is not None:
        return override
    path = expanded(value)
    if exists(path) or (_WINDOWS.match(path) and not _is_structure(path)):
        is_exact = parsed is not None and parsed.value() == path and "${" not in path
        return override if is_exact else f"{key}={quoted(path)}"
    if key == "input" and not sweep and (items := _list_syntax(value, parsed)):
        return f"{key}={items}"
    if parsed is None:
        return override if _is_structure(value) else f"{key}={quoted(path)}"
    if isinstance(parsed.value(), int | float):
        return f"{key}={quoted(path)}"
    return override


def _parse(override: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError, ValueError):  # Hydra reports the error later
        return None


def _list_syntax(value: str, parsed: Override | None) -> str | None:
    """Return comma-separated names in list syntax; ``None`` for other values."""
    if parsed is not None:
        return f"[{value}]" if parsed.value_type == ValueType.SIMPLE_CHOICE_SWEEP else None
    inner = value[1:-1] if value[0] == "[" and value[-1] == "]" else value
    paths = [expanded(path.strip()) for path in inner.split(",")]
    if not all(exists(path) for path in paths):
        return None
    return f"[{','.join(map(quoted, paths))}]"


def _is_structure(value: str) -> bool:
    """Return whether a value looks like a list, a function or other syntax, not a file name."""
    has_brackets = value[0] + value[-1] in ("[]", "{}")
    has_syntax = value[0] in "\"'" or "," in value or "${" in value
    return has_brackets or has_syntax or _FUNCTION.match(value) is not None
