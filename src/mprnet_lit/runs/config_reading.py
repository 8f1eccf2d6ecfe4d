"""Recorded configurations of many runs, which are parsed once if they differ in few values."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import compress, count
from operator import ne
from pathlib import Path
from typing import Any, NamedTuple

from mprnet_lit.runs.files import flatten
from mprnet_lit.utils.masking import mask
from mprnet_lit.utils.untrusted import NotReadableError, parse_scalar, parse_yaml, read_bytes

_VALUE = re.compile(rb"( *\w+: )(-?[\w./](?:[\w./+=,~@%\\-]|:[\w./\\])*)")
"""Line ``key: value`` with an unquoted value without spaces."""
_MARK = rb"_:\./+=,~@%-"
"""Text with all characters that such a value may have."""
_MAX_BYTES, _MAX_TEMPLATES, _MAX_LENGTHS = 2**16, 4, 64
"""Limits of the cache: bytes per template, templates per number of lines, and distinct numbers of
lines."""


def read_config(folder: Path, name: str) -> tuple[dict[str, Any] | None, str]:
    """Return the settings in a YAML file by dotted key, without credentials, and an error message.

    The settings are ``None`` on an error, and if the file does not contain a mapping.
    """
    try:
        return _settings(read_bytes(folder, name)), ""
    except NotReadableError as error:
        return None, str(error)


def masked_settings(content: Any) -> dict[str, Any]:
    """Return the leaves of a tree by dotted key, without credentials."""
    return {key: mask(value, key) for key, value in flatten(content).items()}


class _Template(NamedTuple):
    """Lines of a file, its settings by dotted key, and the key of each line that may differ."""

    lines: Sequence[bytes]
    settings: dict[str, Any]
    keys: Mapping[int, str]


_templates: dict[int, list[_Template]] = defaultdict(list)
"""Templates by their number of lines."""


def _settings(content: bytes) -> dict[str, Any] | None:
    lines = content.split(b"\n")
    templates = _templates[len(lines)]
    for template in templates:
        if (filled := _filled(template, lines)) is not None:
            return filled
    value = parse_yaml(content)
    if not isinstance(value, dict):
        return None
    settings = masked_settings(value)
    if len(content) <= _MAX_BYTES and len(templates) < _MAX_TEMPLATES:
        templates.append(_Template(lines, settings, _keys(lines)))
    if len(_templates) > _MAX_LENGTHS:
        _templates.clear()
    return dict(settings)


def _filled(template: _Template, lines: Sequence[bytes]) -> dict[str, Any] | None:
    """Return the settings in a file; ``None`` if it differs in more than values."""
    changed: dict[str, Any] = {}
    for number in compress(count(), map(ne, lines, template.lines)):
        key, found = template.keys.get(number), _VALUE.fullmatch(lines[number])
        if key is None or found is None or not template.lines[number].startswith(found[1]):
            return None
        try:
            changed[key] = mask(parse_scalar(found[2].decode()), key)
        except (ValueError, LookupError, OverflowError):  # an invalid number
            return None
    return template.settings | changed


def _keys(lines: Sequence[bytes]) -> dict[int, str]:
    """Return the dotted keys of the values that have a line of their own, by number of the line.

    Every such value is replaced by a mark, and the file is parsed again. A mark that is not found
    is part of a longer text, or its key occurs twice. The file has no such values then.
    """
    found = {
        number: match for number, line in enumerate(lines) if (match := _VALUE.fullmatch(line))
    }
    marks = {number: b"%b%d" % (_MARK, number) for number in found}
    marked = [found[k][1] + marks[k] if k in found else line for k, line in enumerate(lines)]
    try:
        leaves = flatten(parse_yaml(b"\n".join(marked)))
    except NotReadableError:
        return {}
    keys = {value: key for key, value in leaves.items() if isinstance(value, str)}
    if any(mark.decode() not in keys for mark in marks.values()):
        return {}
    return {number: keys[mark.decode()] for number, mark in marks.items()}
