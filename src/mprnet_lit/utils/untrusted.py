"""Reading small files that others made: regular files inside a folder, bounded in every way."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from mprnet_lit.utils.errors import UserError

MISSING = "is missing"
MOST_ENTRIES = 1_000_000
"""Files and folders below one folder; a walk ends with an error at more."""
_DEEPEST_FOLDER = 32
_DEEPEST = 32
"""Levels of nested lists and mappings in a JSON or YAML file."""
_MOST_NODES = 10_000
"""Values of a YAML file, whose reader takes some 0.1 ms for each."""
_LONGEST_INTEGER = 18
"""Digits of an integer that fits 64 bits; one with more is read as a float, or as text."""
_SMALL = 2**18
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # or opening a pipe would wait for its writer
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


class NotReadableError(Exception):
    """A file that must not or can't be read; the message says why and follows the file's name."""


def open_inside(folder: Path, name: str | Path, most: int | None = None) -> int:
    """Open a regular file below a folder and return its descriptor.

    Args:
        folder: folder that the file must lie in.
        name: path of the file relative to ``folder``; no part of it may be a link.
        most: largest size in bytes; ``None`` for any.

    Raises:
        NotReadableError: the file is missing, a link, a folder, a pipe or a device, lies outside
            ``folder``, is larger than ``most`` bytes, or can't be opened.
    """
    path = folder / name
    try:
        folder = folder.resolve(strict=True)
        expected = folder.joinpath(name)
        real = path.resolve(strict=True)
        if path.is_symlink() or real != expected or not real.is_relative_to(folder):
            raise NotReadableError("is a link or lies outside the folder, and is not read")
        descriptor = os.open(expected, _FLAGS)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise NotReadableError(
            MISSING if missing else f"can't be read ({error.strerror})"
        ) from error
    except (RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise NotReadableError("has a path that can't be followed") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotReadableError("is not a regular file, and is not read")
        if most is not None and status.st_size > most:
            raise NotReadableError(f"is larger than {most / 1e6:.1f} MB, and is not read")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(folder: Path, name: str | Path, most: int = _SMALL) -> bytes:
    """Return the content of a regular file below a folder; arguments and errors as `open_inside`.

    A file that grows while it is read is cut off at ``most`` bytes.
    """
    descriptor = open_inside(folder, name, most)
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(most)
        except OSError as error:
            raise NotReadableError(f"can't be read ({error.strerror})") from error


def read_json(folder: Path, name: str | Path, most: int = _SMALL) -> dict[str, Any]:
    """Return a JSON object whose integers fit 64 bits and whose nesting is bounded.

    An integer with more digits becomes a float, which may be infinite.

    Raises:
        NotReadableError: as `open_inside`, or the content is not a JSON object or nested too deep.
    """
    content = read_bytes(folder, name, most)
    try:
        values = json.loads(content, parse_int=_integer)
    except (ValueError, RecursionError) as error:  # half-written
        raise NotReadableError("is damaged") from error
    if not isinstance(values, dict):
        raise NotReadableError("is damaged")
    _check_depth(values)
    return values


def read_yaml(folder: Path, name: str | Path, most: int = _SMALL) -> Any:
    """Return the content of a YAML file with neither anchors nor aliases, as OmegaConf writes it.

    Only mappings, lists, texts, numbers, truth values and null are read; interpolations stay text.

    Raises:
        NotReadableError: as `open_inside`, or the content is not such YAML or nested too deep.
    """
    content = read_bytes(folder, name, most)
    try:
        return yaml.load(content, _Loader)
    # PyYAML indexes into the text of a number or a truth value whose tag is given.
    except (yaml.YAMLError, ValueError, LookupError, RecursionError, OverflowError) as error:
        raise NotReadableError("is damaged") from error


def read_text(folder: Path, name: str | Path, most: int = 2**16) -> str:
    """Return the beginning of a text file, at most ``most`` bytes; errors as `open_inside`."""
    with os.fdopen(open_inside(folder, name), "rb") as file:
        return file.read(most).decode(errors="replace").strip()


class Directory(NamedTuple):
    """A folder that a walk met: its path, its sub-folders' names and its files' names."""

    path: Path
    folders: list[str]
    files: list[str]


def walk(root: Path) -> Iterator[Directory]:
    """Walk a folder and its sub-folders, parents first; follow no link and enter nothing hidden.

    The caller may take names out of ``folders``, and sort it, before it asks for the next folder.
    Folders that can't be listed, and those more than 32 levels deep, are not entered.

    Raises:
        UserError: there are more than a million files and folders.
    """
    left = MOST_ENTRIES
    waiting = [(root, 0)]
    while waiting:
        path, depth = waiting.pop()
        found = Directory(path, [], [])
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        raise UserError(
                            f"{root} holds more than {MOST_ENTRIES:,} files and folders: name a "
                            "folder inside it"
                        )
                    if not entry.is_dir(follow_symlinks=False):
                        found.files.append(entry.name)
                    elif not entry.name.startswith("."):
                        found.folders.append(entry.name)
        except OSError:
            pass
        found.folders.sort()
        yield found
        if depth < _DEEPEST_FOLDER:
            waiting += [(path / name, depth + 1) for name in reversed(found.folders)]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values alone: no aliases, which can blow up a small file, and no deep nesting."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.depth = self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent) or getattr(self.peek_event(), "anchor", None):
            raise yaml.YAMLError("anchors and aliases are not read")
        self.depth += 1
        self.nodes += 1
        if self.depth > _DEEPEST or self.nodes > _MOST_NODES:
            raise yaml.YAMLError("nested too deep, or too many values")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def integer(self, node: Any) -> int | str:
        """Return an integer of at most 64 bits; a longer one as it is written."""
        text = self.construct_scalar(node)
        return int(self.construct_yaml_int(node)) if len(text) <= _LONGEST_INTEGER else str(text)


_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_constructors = {
    f"tag:yaml.org,2002:{kind}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{kind}"]
    for kind in _PLAIN
} | {
    "tag:yaml.org,2002:int": _Loader.integer,
    None: yaml.SafeLoader.yaml_constructors[None],
}
# Dates and the like stay text, as in OmegaConf.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] in _PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


def _check_depth(node: Any, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise NotReadableError("is nested too deep, and is not read")
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        _check_depth(child, depth + 1)
