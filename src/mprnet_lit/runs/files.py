"""Readers for the files of a run, which may be incomplete, damaged or missing."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from mprnet_lit.utils import untrusted as reading
from mprnet_lit.utils.untrusted import NotReadableError

T = TypeVar("T")

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"

_MAX_BYTES = 2**18
"""Maximum size of a configuration, a summary or an ``environment.json``."""
MAX_NUMBER = 1e300
"""Maximum magnitude of a number; sums of larger numbers may overflow."""


def read_json(path: Path, max_bytes: int = _MAX_BYTES) -> tuple[dict[str, Any], str]:
    """Return a JSON object and an error message; on an error the object is empty."""
    return _attempt(lambda: reading.read_json(path.parent, path.name, max_bytes), {})


def read_yaml(folder: Path, name: str) -> tuple[Any, str]:
    """Return the content of a YAML file and an error message; on an error the content is None."""
    return _attempt(lambda: reading.read_yaml(folder, name, _MAX_BYTES), None)


def read_text(path: Path) -> str:
    """Return the start of a text file, or an error message if it can't be read."""
    text, damage = _attempt(lambda: reading.read_text(path.parent, path.name), "")
    return f"{path.name} {damage}" if damage else text


def _attempt(read: Callable[[], T], empty: T) -> tuple[T, str]:
    try:
        return read(), ""
    except NotReadableError as error:
        return empty, str(error)


def modified(path: Path) -> float | None:
    """Return the modification time of a file; ``None`` for a missing file."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return None


def overrides(content: Any) -> dict[str, Any]:
    """Return the values in the content of an ``overrides.yaml``, by key."""
    found = {}
    for line in content if isinstance(content, list) else ():
        key, equals, value = str(line).partition("=")
        if equals and not key.startswith("~"):
            found[key.lstrip("+").partition("@")[0]] = plain(value)
    return found


def plain(value: Any) -> Any:
    """Convert a text to the type that Hydra gives it: a number, a boolean, ``None`` or a text."""
    if not isinstance(value, str):
        return value
    words: dict[str, Any] = {"true": True, "false": False, "null": None}
    if value.lower() in words:
        return words[value.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value.strip("'\"")


def is_number(value: Any) -> bool:
    """Return whether a value is a number of magnitude at most 1e300, not NaN and not a boolean."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= MAX_NUMBER


def is_within(key: str, nodes: Iterable[str]) -> bool:
    """Return whether a dotted key is one of some nodes of a tree, or below one of them."""
    return any(f"{key}.".startswith(f"{node}.") for node in nodes)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a tree by dotted key; a list of plain values is a leaf.

    Equal keys of several trees share their memory.
    """
    found: dict[str, Any] = {}
    _flatten(node, prefix, found)
    return found


def _flatten(node: Any, prefix: str, found: dict[str, Any]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            _flatten(child, f"{prefix}{key}.", found)
    elif isinstance(node, list) and any(isinstance(child, dict | list) for child in node):
        for key, child in enumerate(node):
            _flatten(child, f"{prefix}{key}.", found)
    elif prefix:
        found[sys.intern(prefix[:-1])] = node
