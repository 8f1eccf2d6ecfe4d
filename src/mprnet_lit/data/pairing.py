"""Find images, and pairs of degraded and target images, by glob patterns."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from mprnet_lit.data.manifest import Check, Manifest
from mprnet_lit.data.samples import SampleList
from mprnet_lit.images.listing import Listing, skip_messages
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import printable

log = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
"""``raise`` to report all problems in one error; ``skip`` to skip faulty files with a warning."""
Key = str
"""Texts that the wildcards of a pattern match, separated by null characters."""
_MAX_LISTED = 10
"""Maximum number of problems that an error lists."""
_MAX_WILDCARDS = 50
_FEW_WILDCARDS = 3
"""Number of wildcards up to which a regular expression is faster, even for the worst name."""
_GROUPS = {"**/": "((?:[^/]+/)*)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
"""Regular expression of each wildcard."""


def find_pairs(
    degraded_folder: Path,
    target_folder: Path,
    degraded_pattern: str = "**/*",
    target_pattern: str = "**/*",
    on_error: OnError = "raise",
    check: Check = "headers",
) -> SampleList:
    """Find image pairs in two folders, or in one folder by two patterns.

    Two files are a pair if the wildcards of their patterns match the same text. Patterns are globs
    relative to the folder, without the file name suffix, so that a ``.png`` may pair with a
    ``.jpg``. ``*`` matches any text without a slash, ``?`` one character, ``**/`` any number of
    folders, and ``**`` any text. Matching is case-sensitive. The pairs are sorted by the text that
    the wildcards match. ``check`` is that of :class:`mprnet_lit.data.manifest.Manifest`.

    Raises:
        UserError: a folder is missing, or no file in it matches the pattern; with ``raise``, a
            file has no partner, can't be read, is ambiguous, is its own target, or differs in size
            from its target; with ``skip``, no pair remains.
    """
    if len(_split_pattern(degraded_pattern)) != len(_split_pattern(target_pattern)):
        raise UserError(
            f"the patterns '{degraded_pattern}' and '{target_pattern}' must have the same number "
            "of wildcards, because two files are a pair if their wildcards match the same text"
        )
    manifests = {folder: Manifest(folder, check) for folder in (degraded_folder, target_folder)}
    degraded = _Matches(degraded_folder, degraded_pattern, manifests[degraded_folder])
    target = _Matches(target_folder, target_pattern, manifests[target_folder])
    faulty = degraded.files.keys() ^ target.files.keys()
    faulty |= degraded.ambiguous.keys() | target.ambiguous.keys()
    problems: list[str] = []
    for key in sorted(faulty):
        problems += (*degraded.faults(key, target), *target.faults(key, degraded))
    keys = sorted(key for key in degraded.files if key not in faulty)  # sorted names, except a few
    images, partners = ([found.files[key] for key in keys] for found in (degraded, target))
    if len(manifests) == 1:
        problems += degraded.manifest.probe(list(dict.fromkeys((*images, *partners))))
    else:
        problems += (*degraded.manifest.probe(images), *target.manifest.probe(partners))
    image_sizes, target_sizes = degraded.manifest.sizes[images], target.manifest.sizes[partners]
    is_readable = (image_sizes > 0).all(axis=1) & (target_sizes > 0).all(axis=1)
    pairs = zip(map(degraded.path, images), map(target.path, partners), strict=True)
    is_own = np.array([image == partner for image, partner in pairs], bool)
    differ = (image_sizes != target_sizes).any(axis=1) & is_readable
    for k in np.flatnonzero(is_own | differ):
        image, partner = degraded.path(images[k]), target.path(partners[k])
        (height, width), (target_height, target_width) = image_sizes[k], target_sizes[k]
        problems.append(
            f"{image}: both patterns match this file, which would be its own target"
            if is_own[k]
            else f"{image}: {width}x{height}, but its target {partner} is "
            f"{target_width}x{target_height}"
        )
    kept = np.flatnonzero(is_readable & ~is_own & ~differ).tolist()
    samples = SampleList(
        (_stem(degraded.names[images[k]]) for k in kept),
        (target.path(partners[k]) for k in kept),
        (degraded.path(images[k]) for k in kept),
        image_sizes[kept],
    )
    _report(problems, (*degraded.skipped, *target.skipped), on_error, "pair", len(samples))
    return samples


def find_images(
    folder: Path, pattern: str = "**/*", on_error: OnError = "raise", check: Check = "headers"
) -> SampleList:
    """Find clean images by a pattern; see :func:`find_pairs` for the syntax and ``check``.

    Raises:
        UserError: the folder is missing, or no file in it matches the pattern; with ``raise``, a
            file can't be read or is ambiguous; with ``skip``, no image remains.
    """
    found = _Matches(folder, pattern, Manifest(folder, check))
    keys = sorted(found.files)
    problems = [fault for key in sorted(found.ambiguous) for fault in found.faults(key)]
    places = np.array([found.files[key] for key in keys if key not in found.ambiguous], np.intp)
    problems += found.manifest.probe(places.tolist())
    kept = places[(found.manifest.sizes[places] > 0).all(axis=1)].tolist()
    samples = SampleList(
        (_stem(found.names[k]) for k in kept),
        map(found.path, kept),
        ("" for _ in kept),
        found.manifest.sizes[kept],
    )
    _report(problems, found.skipped, on_error, "image", len(samples))
    return samples


def matches(name: str, pattern: str) -> bool:
    """Return whether a path relative to the folder matches a pattern; see :func:`find_pairs`."""
    return _matcher(_split_pattern(pattern))(_stem(name)) is not None


class _Matches:
    """Files in a folder that match a pattern.

    ``files`` maps the texts that the wildcards match to the place in ``names`` of a file with these
    texts. ``names`` are those of the manifest. ``ambiguous`` has the places of all files of the
    texts of several files. ``skipped`` has the messages about skipped files and folders.
    """

    def __init__(self, folder: Path, pattern: str, manifest: Manifest) -> None:
        parts = _split_pattern(pattern)
        if len(parts) // 2 > _MAX_WILDCARDS:
            raise UserError(
                f"the pattern '{pattern}' has more than {_MAX_WILDCARDS} wildcards: use **"
            )
        self.folder, self.pattern, self.manifest = folder, pattern, manifest
        self.names = manifest.files
        self._prefix = str(folder / "x")[:-1]
        self.files: dict[Key, int] = {}
        self.ambiguous: dict[Key, list[int]] = {}
        match = _matcher(parts)
        for place, name in enumerate(self.names):
            if (key := match(_stem(name))) is None:
                continue
            if (first := self.files.setdefault(key, place)) != place:
                self.ambiguous.setdefault(key, [first]).append(place)
        if not self.files:
            raise UserError(
                f"no image in {folder} matches the pattern '{pattern}': use a pattern that matches "
                f"names without the suffix, such as '{_stem(self.names[0])}'"
            )
        unread = [folder / name for name in manifest.unread if match(_stem(name)) is not None]
        self.skipped = skip_messages(Listing([], unread, manifest.closed), folder=folder)

    def path(self, place: int) -> str:
        """Return the path of a file by its place in ``names``."""
        return self._prefix + self.names[place]

    def faults(self, key: Key, other: "_Matches | None" = None) -> list[str]:
        """Return a list of at most one message about the files of a key."""
        if key in self.ambiguous:
            paths = ", ".join(map(self.path, self.ambiguous[key]))
            return [f"{paths}: ambiguous, because the names differ only in the suffix"]
        if other is None or key not in self.files:
            return []
        if key in other.files and key not in other.ambiguous:
            return []
        count = "more than one partner" if key in other.files else "no partner"
        path = self.path(self.files[key])
        return [f"{path}: {count} in {other.folder} (pattern {other.pattern})"]


def _stem(name: str) -> str:
    """Return a relative path of an image without the suffix, which it has."""
    return name.rpartition(".")[0]


def _split_pattern(pattern: str) -> list[str]:
    """Split a glob into literal text (even indices) and wildcards (odd indices)."""
    return re.split(r"(\*\*/|\*\*|\*|\?)", pattern)


def _matcher(parts: Sequence[str]) -> Callable[[str], Key | None]:
    """Return the function that returns the key of a name, or ``None`` without a match."""
    if len(parts) // 2 > _FEW_WILDCARDS:  # a regular expression would take exponential time
        return partial(_match, parts)
    texts = (_GROUPS[part] if k % 2 else re.escape(part) for k, part in enumerate(parts))
    full = re.compile("".join(texts), re.DOTALL).fullmatch
    return lambda name: "\0".join(found.groups()) if (found := full(name)) else None


def _match(parts: Sequence[str], name: str) -> Key | None:
    """Return the text that each wildcard matches (greedily), or ``None`` without a match.

    The cache keeps the time polynomial.
    """

    @cache
    def rest(number: int, start: int) -> tuple[str, ...] | None:
        if not name.startswith(parts[number], start):
            return None
        start += len(parts[number])
        if number + 1 == len(parts):
            return () if start == len(name) else None
        for end in _ends(parts[number + 1], name, start):
            if (after := rest(number + 2, end)) is not None:
                return (name[start:end], *after)
        return None

    found = rest(0, 0)
    return None if found is None else "\0".join(found)


def _ends(wildcard: str, name: str, start: int) -> Sequence[int]:
    """Return the possible end indices of a wildcard that starts at ``start``, largest first."""
    if wildcard == "**/":
        ends = [start]
        while (slash := name.find("/", ends[-1])) > ends[-1]:
            ends.append(slash + 1)
        return ends[::-1]
    slash = name.find("/", start)
    last = len(name) if wildcard == "**" or slash < 0 else slash
    return [start + 1][: last - start] if wildcard == "?" else range(last, start - 1, -1)


def _report(
    problems: Sequence[str], skipped: Iterable[str], on_error: OnError, what: str, remaining: int
) -> None:
    """Raise one UserError that lists the problems, or log warnings if they can be skipped."""
    if problems and (on_error != "skip" or not remaining):
        advice = (
            "fix them, or set on_error='skip' to skip these files"
            if remaining
            else f"fix them, because no {what} remains without these files"
        )
        listed = [f"  {printable(line)}" for line in problems[:_MAX_LISTED]]
        if len(problems) > _MAX_LISTED:
            listed.append(f"  and {len(problems) - _MAX_LISTED} more")
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise UserError("\n".join([f"{count} with the {what}s: {advice}", *listed]))
    # Two patterns in the same folder give the same messages about skipped files.
    for line in (*(f"Skipped: {problem}" for problem in problems), *dict.fromkeys(skipped)):
        log.warning("%s", printable(line))
