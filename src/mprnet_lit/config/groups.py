"""Keys, values and comments of the files in ``conf/``, read without Hydra."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mprnet_lit.utils.untrusted import SAFE_LOADER

_PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
"""Folder of the configuration: in an installed package, or at the top of a source checkout."""


class Setting(NamedTuple):
    """Setting in a configuration file: key within the file, one-line YAML value, comment."""

    key: str
    value: str
    comment: str


PRESETS = ("experiment", "debug")
"""Groups whose options only override existing keys."""


@cache
def modes() -> list[str]:
    """Return the modes. The primary configuration of a mode is the file ``MODE.yaml``."""
    return sorted(path.stem for path in CONFIG_DIR.glob("[!_]*.yaml"))


@cache
def groups() -> dict[str, list[str]]:
    """Return the options of each group, without Hydra's groups and private options (``_base``)."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONFIG_DIR.glob("*/**/[!_]*.yaml")):
        group = path.parent.relative_to(CONFIG_DIR).as_posix()
        if group.partition("/")[0] != "hydra":
            found.setdefault(group, []).append(path.stem)
    return found


@cache
def valid_keys() -> frozenset[str]:
    """Return the dotted keys that at least one mode accepts, including the names of the groups."""
    return frozenset().union(*map(mode_keys, modes()))


@cache
def mode_groups(mode: str) -> dict[str, str | None]:
    """Return the groups of a mode, with the default option of each."""
    defaults = _load(CONFIG_DIR / f"{mode}.yaml")["defaults"]
    pairs = [
        pair for default in defaults if isinstance(default, Mapping) for pair in default.items()
    ]
    return {str(group).removeprefix("optional "): option for group, option in pairs}


@cache
def mode_keys(mode: str) -> frozenset[str]:
    """Return the dotted keys that a mode accepts with at least one choice of group options."""
    files = [
        f"{group}/{option}"
        for group in mode_groups(mode).keys() - set(PRESETS)
        for option in groups()[group]
    ]
    return frozenset(mode_groups(mode)).union(*map(file_keys, (mode, *files)))


def mode_options(mode: str) -> dict[str, list[str]]:
    """Return the options of each group of a mode, without presets for other modes."""
    options = {group: groups()[group] for group in mode_groups(mode)}
    for group in options.keys() & set(PRESETS):
        options[group] = [name for name in options[group] if _applies(group, name, mode)]
    return options


def _applies(group: str, option: str, mode: str) -> bool:
    """Return whether a mode has all groups and keys that an option overrides."""
    defaults = _load(CONFIG_DIR / group / f"{option}.yaml").get("defaults", [])
    overridden = {key for default in defaults if isinstance(default, Mapping) for key in default}
    known = {f"override /{name}" for name in mode_groups(mode)}
    return overridden <= known and file_keys(f"{group}/{option}") <= mode_keys(mode)


def owners(key: str, mode: str) -> dict[str, list[str]]:
    """Return the modes, or the options within ``mode``, that define a key.

    Returns:
        Option names by group, or mode names under the key ``mode``. The mapping is empty if no
        mode defines the key, or if every command of ``mode`` accepts the key.
    """
    accepting = [name for name in modes() if key in mode_keys(name)]
    if mode not in accepting:
        return {"mode": accepting} if accepting else {}
    if key in file_keys(mode):
        return {}
    found = {
        group: [name for name in groups()[group] if key in file_keys(f"{group}/{name}")]
        for group in mode_groups(mode)
        if group not in PRESETS
    }
    return {group: options for group, options in found.items() if options}


@cache
def file_keys(name: str) -> frozenset[str]:
    """Return the dotted keys of a file and of its base files, without the keys of its groups.

    Args:
        name: path in ``conf/`` without suffix, such as ``train`` or ``task/derain``.
    """
    path = CONFIG_DIR / f"{name}.yaml"
    content = _load(path)
    prefix = package(path)
    keys = {f"{prefix}{key}" for key in _dotted(content)} | {prefix.rstrip(".")} - {""}
    for default in content.get("defaults", []):
        if isinstance(default, str) and not default.startswith(("_self_", "/schema/")):
            option, _, place = default.partition("@")
            base = posixpath.join(posixpath.dirname(name), option).lstrip("/")
            inherited = file_keys(base)
            if place:  # rain100h@sets.rain100h: keys below "sets.rain100h"
                inner = package(CONFIG_DIR / f"{base}.yaml")
                inherited = frozenset(
                    f"{prefix}{place}.{key.removeprefix(inner)}"
                    for key in inherited
                    if key.startswith(inner)
                ) | {f"{prefix}{place}", f"{prefix}{place.partition('.')[0]}"}
            keys |= inherited
    return frozenset(keys)


def package(path: Path) -> str:
    """Return the command-line prefix of the keys of a file, such as ``data.``; may be empty."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    if path.parent == CONFIG_DIR or first.strip() == "# @package _global_":
        return ""
    return path.parent.relative_to(CONFIG_DIR).as_posix().replace("/", ".") + "."


def file_settings(path: Path) -> list[Setting]:
    """Return the settings of a file in file order, including the defaults list."""
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, SAFE_LOADER)
    return [] if root is None else list(_settings(root, text.splitlines(), ()))


def about(path: Path) -> list[str]:
    """Return the lines of the header comment of a file."""
    lines = takewhile(
        lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()
    )
    return [line.strip("# ") for line in lines if "@package" not in line]


def _load(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), SAFE_LOADER) or {}


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, child in node.items():
            if prefix or key != "defaults":
                yield f"{prefix}{key}"
                yield from _dotted(child, f"{prefix}{key}.")


def _settings(node: yaml.Node, lines: list[str], path: tuple[str, ...]) -> Iterator[Setting]:
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        name, line = (*path, str(key.value)), key.start_mark.line
        if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value:
            yield from _settings(value, lines, name)
            continue
        if isinstance(value, yaml.ScalarNode):
            text = str(value.value)
        else:
            shown = yaml.load(yaml.serialize(value), SAFE_LOADER)
            text = yaml.safe_dump(shown, default_flow_style=True, width=10_000, sort_keys=False)
        yield Setting(".".join(name), " ".join(text.split()), _comment(lines, line))


def _comment(lines: list[str], line: int) -> str:
    """Return the comments above and on a line, without the header comment of the file."""
    above = list(takewhile(lambda text: text.lstrip().startswith("#"), reversed(lines[:line])))
    if len(above) == line:
        above = []
    beside = re.search(r"\s#\s(.*)$", lines[line])
    return " ".join(
        [*(text.strip(" #") for text in reversed(above)), *(beside.groups() if beside else ())]
    )
