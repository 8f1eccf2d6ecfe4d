"""Reading the files of runs that may be half-written, damaged or missing."""

import json
import math
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

MISSING = "is missing"


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """Return a JSON object, and what is wrong with the file in words; then the object is empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, _reason(error)
    except (ValueError, RecursionError):  # half-written
        return {}, "is damaged"
    return (content, "") if isinstance(content, dict) else ({}, "is damaged")


def read_yaml(path: Path) -> tuple[Any, str]:
    """Return a YAML file's content unresolved, or ``None`` and what is wrong with it in words."""
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False), ""
    except OSError as error:
        return None, _reason(error)
    except (ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException):
        return None, "is damaged"


def read_text(path: Path) -> str:
    """Return a file's text as far as it is any."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"{path.name} {_reason(error)}"


def modified(path: Path) -> float | None:
    """Return when a file was last written; ``None`` if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def overrides(content: Any) -> dict[str, Any]:
    """Return what the lines of an ``overrides.yaml`` set."""
    found = {}
    for line in content if isinstance(content, list) else ():
        key, equals, value = str(line).partition("=")
        if equals and not key.startswith("~"):
            found[key.lstrip("+").partition("@")[0]] = plain(value)
    return found


def plain(value: Any) -> Any:
    """Return what a text means to Hydra: a number, a truth value, null; else the text."""
    if not isinstance(value, str):
        return value
    words: dict[str, Any] = {"true": True, "false": False, "null": None}
    if value.lower() in words:
        return words[value.lower()]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value.strip("'\"")


def is_number(value: Any) -> bool:
    """Say whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return a tree's leaves by dotted keys; a list of plain values is a leaf."""
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list) and any(isinstance(child, dict | list) for child in node):
        children = list(enumerate(node))
    else:
        return {prefix.rstrip("."): node} if prefix else {}
    found: dict[str, Any] = {}
    for key, child in children:
        found |= flatten(child, f"{prefix}{key}.")
    return found


def _reason(error: OSError) -> str:
    return MISSING if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
