"""Reading of small, untrusted files: regular files in a folder, with limits on size and depth."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.short_texts import cache_short

MISSING = "is missing"
MAX_ENTRIES = 1_000_000
"""Maximum number of files and folders that :func:`walk` visits before it raises an error."""
_MAX_FOLDER_DEPTH = 32
_MAX_DEPTH = 32
"""Maximum nesting of lists and mappings in a JSON or YAML file."""
_MAX_NODES = 10_000
"""Maximum number of values in a YAML file."""
_MAX_DIGITS = 18
"""Maximum digits of an integer, to fit in 64 bits. A longer integer becomes float or str."""
_DEFAULT_MAX_BYTES = 2**18
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # else opening a pipe would block
    | getattr(os, "O_BINARY", 0)
)
_SEPARATORS = re.compile(r"[/\\]" if os.sep == "\\" else "/")
SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Parser of YAML in C, or in Python if PyYAML was built without it."""


class NotReadableError(Exception):
    """A file that is unsafe or unreadable. The message is a clause that follows the file name."""


def open_inside(folder: Path, name: str | Path, max_bytes: int | None = None) -> int:
    """Open a regular file in a folder, without following symbolic links; return its descriptor.

    Raises:
        NotReadableError: the file is missing, a symbolic link, a folder, a pipe or a device, is
            outside ``folder``, is larger than ``max_bytes``, or can't be opened.
    """
    path = os.path.join(folder, name)  # noqa: PTH118  # Path would be slow
    try:
        if _may_be_outside(folder, name):
            path = _without_links(folder, name)
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise NotReadableError(
            MISSING if missing else f"can't be read ({error.strerror})"
        ) from error
    except (RuntimeError, ValueError) as error:  # a cycle of links; a NUL in the name
        raise NotReadableError("has an invalid path") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotReadableError("is not a regular file, and is not read")
        if max_bytes is not None and status.st_size > max_bytes:
            raise NotReadableError(f"is larger than {max_bytes / 1e6:.4g} MB, and is not read")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _may_be_outside(folder: Path, name: str | Path) -> bool:
    """Return whether a file or a folder above it, below ``folder``, is a link, or a part is ``..``.

    Some reparse points of Windows are not links; :func:`_without_links` decides.

    Raises:
        OSError: the file or a folder above it is missing.
    """
    path = str(folder)
    for part in _SEPARATORS.split(str(name)):
        if part in ("", ".", "..") or (":" in part and os.sep == "\\"):  # C:name is absolute
            return True
        path = f"{path}{os.sep}{part}"
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", False):
            return True
    return False


def _without_links(folder: Path, name: str | Path) -> str:
    """Return the path of a file.

    The folder may be a symbolic link, but the file and the folders between them may not.
    """
    inside = folder.resolve(strict=True)
    expected = inside / name
    real = expected.resolve(strict=True)
    if real != expected or not real.is_relative_to(inside):
        raise NotReadableError("is a symbolic link or outside the folder, and is not read")
    return str(expected)


def read_bytes(folder: Path, name: str | Path, max_bytes: int = _DEFAULT_MAX_BYTES) -> bytes:
    """Return the content of a file, with the errors of :func:`open_inside`.

    At most ``max_bytes`` are read, even if the file grows.
    """
    with os.fdopen(open_inside(folder, name, max_bytes), "rb") as file:
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise NotReadableError(f"can't be read ({error.strerror})") from error


def read_json(
    folder: Path, name: str | Path, max_bytes: int = _DEFAULT_MAX_BYTES
) -> dict[str, Any]:
    """Return the JSON object in a file. An integer of more than 18 digits becomes a float.

    Raises:
        NotReadableError: as in :func:`open_inside`; the content is not a JSON object or is nested
            too deeply.
    """
    try:
        values = json.loads(read_bytes(folder, name, max_bytes), parse_int=_integer)
    except (ValueError, RecursionError) as error:  # for example a partially written file
        raise NotReadableError("is damaged") from error
    if not isinstance(values, dict):
        raise NotReadableError("is damaged")
    _check_depth(values)
    return values


def read_yaml(folder: Path, name: str | Path, max_bytes: int = _DEFAULT_MAX_BYTES) -> Any:
    """Return the content of a YAML file; see :func:`parse_yaml`.

    Raises:
        NotReadableError: as in :func:`open_inside` and :func:`parse_yaml`.
    """
    return parse_yaml(read_bytes(folder, name, max_bytes))


def parse_yaml(content: bytes) -> Any:
    """Return the value of a YAML document in the subset that OmegaConf writes.

    The subset has mappings, lists, strings, numbers, booleans and null, and neither anchors nor
    aliases. Interpolations are returned as strings.

    Raises:
        NotReadableError: the content is not in this subset, is nested too deeply, or has too many
            values.
    """
    try:
        return _Document(content).read()
    # PyYAML raises LookupError for an explicitly tagged number or boolean without a value.
    except (yaml.YAMLError, ValueError, LookupError, RecursionError, OverflowError) as error:
        raise NotReadableError("is damaged") from error


def read_text(folder: Path, name: str | Path, max_bytes: int = 2**16) -> str:
    """Return the first ``max_bytes`` of a text file. Errors are those of :func:`open_inside`."""
    with os.fdopen(open_inside(folder, name), "rb") as file:
        return file.read(max_bytes).decode(errors="replace").strip()


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk a folder tree like ``os.walk``, without symbolic links and hidden folders.

    Links to folders are listed as files. Folders more than 32 levels deep are skipped.

    Raises:
        UserError: the tree has more than a million files and folders.
    """
    remaining = MAX_ENTRIES
    for name, folders, files in os.walk(root):
        remaining -= len(folders) + len(files)
        if remaining < 0:
            raise UserError(
                f"{root} has more than {MAX_ENTRIES:,} files and folders: choose a subfolder"
            )
        path = Path(name)
        links = {folder for folder in folders if (path / folder).is_symlink()}
        folders[:] = sorted(f for f in folders if f not in links and not f.startswith("."))
        yield path, folders, [*files, *links]
        if len(path.relative_to(root).parts) == _MAX_FOLDER_DEPTH:
            folders.clear()


class _Document:
    """Value of a YAML file with at most one document, built from the events of the parser.

    PyYAML would compose and construct the values in Python, which takes several times as long.
    Aliases, which may expand a file, are rejected.

    Args:
        content: content of the file.
    """

    def __init__(self, content: bytes) -> None:
        self._next = SAFE_LOADER(content).get_event
        self._nodes = 0

    def read(self) -> Any:
        """Return the value; ``None`` for an empty file."""
        self._next()  # start of the stream
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        value = self._value(self._next(), 1)
        self._next()  # end of the document
        if not isinstance(self._next(), yaml.StreamEndEvent):
            raise yaml.YAMLError("more than one document")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        """Return the value that starts with an event."""
        self._nodes += 1
        if self._nodes > _MAX_NODES or depth > _MAX_DEPTH:
            raise yaml.YAMLError("nested too deeply, or too many values")
        kind = type(event)
        if kind is yaml.AliasEvent or event.anchor:
            raise yaml.YAMLError("anchors and aliases are not supported")
        tag, following = event.tag, self._next
        if kind is yaml.ScalarEvent:
            if tag:
                return _tagged(event.value, tag)
            return parse_scalar(event.value) if event.implicit[0] else event.value
        if tag not in (None, "!", _KINDS[kind]):
            raise yaml.YAMLError(f"the tag {tag} is not supported")
        if kind is yaml.SequenceStartEvent:
            items = []
            while type(child := following()) is not yaml.SequenceEndEvent:
                items.append(self._value(child, depth + 1))
            return items
        mapping = {}
        while type(child := following()) is not yaml.MappingEndEvent:
            if type(child) is not yaml.ScalarEvent:
                raise yaml.YAMLError("a key is a list or a mapping")
            key = self._value(child, depth + 1)
            mapping[key] = self._value(following(), depth + 1)
        return mapping


@cache_short
def parse_scalar(text: str) -> Any:
    """Return the value of a YAML scalar without quotes. Dates are texts, as in OmegaConf.

    Raises:
        ValueError, LookupError, OverflowError: the text is not a valid number.
    """
    forms = _FORMS.get(text[:1], ())
    return _tagged(text, next((tag for tag, form in forms if form.match(text)), "!"))


def _tagged(text: str, tag: str) -> Any:
    """Return the value of a scalar; an integer of more than 18 digits is returned as text."""
    if tag in ("!", f"{_TAG}str") or (tag == f"{_TAG}int" and len(text) > _MAX_DIGITS):
        return text
    if tag not in _CONSTRUCTORS:
        raise yaml.YAMLError(f"the tag {tag} is not supported")
    return _CONSTRUCTORS[tag](yaml.ScalarNode(tag, text))


_TAG = "tag:yaml.org,2002:"
_KINDS = {yaml.SequenceStartEvent: f"{_TAG}seq", yaml.MappingStartEvent: f"{_TAG}map"}
_CONSTRUCTORS = {
    f"{_TAG}{kind}": getattr(yaml.constructor.SafeConstructor(), f"construct_yaml_{kind}")
    for kind in ("null", "bool", "int", "float")
}
_FORMS: dict[str, list[tuple[str, re.Pattern[str]]]] = {
    first: [(tag, form) for tag, form in resolvers if tag in _CONSTRUCTORS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "-+0123456789":
    _FORMS.setdefault(_first, []).append(
        (f"{_TAG}float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"))
    )


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _check_depth(node: Any, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise NotReadableError("is nested too deeply, and is not read")
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        _check_depth(child, depth + 1)
