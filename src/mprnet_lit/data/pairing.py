"""Find images, and pairs of degraded and target images, by glob patterns."""

import hashlib
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mprnet_lit.images.formats import HIGH_BIT_DEPTH_SUFFIXES
from mprnet_lit.images.listing import Listing, list_images, skip_messages
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import printable

log = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
"""``raise`` to report all problems in one error; ``skip`` to skip faulty files with a warning."""
Key = tuple[str, ...]
"""Text that each wildcard of a pattern matches."""
_MAX_LISTED = 10
"""Maximum number of problems that an error lists."""
_MAX_WILDCARDS = 50


@dataclass(frozen=True)
class Sample:
    """Target image, and its degraded image of the same size, if any.

    Attributes:
        name: path of the degraded image (of the target if ``degraded`` is ``None``), relative to
            its folder and without the file name suffix.
        target: path of the target.
        degraded: path of the degraded image; ``None`` to degrade the target on the fly.
        height: height in pixels.
        width: width in pixels.
    """

    name: str
    target: Path
    degraded: Path | None
    height: int
    width: int

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded images, estimated from the suffixes of the files."""
        suffixes = [p.suffix.lower() for p in (self.target, self.degraded) if p is not None]
        depths = (2 if suffix in HIGH_BIT_DEPTH_SUFFIXES else 1 for suffix in suffixes)
        return self.height * self.width * 3 * sum(depths)


def digest(samples: Sequence[Sample], *options: Any) -> str:
    """Return a digest of the names, sizes and order of images, and of further values."""
    lines = [f"{s.name!r} {s.width} {s.height}" for s in samples]
    return hashlib.sha256("\n".join([*lines, repr(options)]).encode()).hexdigest()


def find_pairs(
    degraded_folder: Path,
    target_folder: Path,
    degraded_pattern: str = "**/*",
    target_pattern: str = "**/*",
    on_error: OnError = "raise",
) -> list[Sample]:
    """Find image pairs in two folders, or in one folder by two patterns.

    Two files are a pair if the wildcards of their patterns match the same text. Patterns are globs
    relative to the folder, without the file name suffix, so that a ``.png`` may pair with a
    ``.jpg``. ``*`` matches any text without a slash, ``?`` one character, ``**/`` any number of
    folders, and ``**`` any text. Matching is case-sensitive. The pairs are sorted by the text that
    the wildcards match.

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
    degraded = _Matches(degraded_folder, degraded_pattern)
    target = _Matches(target_folder, target_pattern)
    problems: list[str] = []
    candidates: list[tuple[Path, Path]] = []
    for key in sorted(degraded.files.keys() | target.files.keys()):
        faults = [*degraded.faults(key, target), *target.faults(key, degraded)]
        problems += faults
        if not faults:
            candidates.append((degraded.files[key][0], target.files[key][0]))
    sizes, unreadable = _probe([path for pair in candidates for path in pair])
    problems += unreadable
    pairs = []
    for image, partner in candidates:
        size, target_size = sizes.get(image), sizes.get(partner)
        if image == partner:
            problems.append(
                f"{image}: both patterns match this file, which would be its own target"
            )
        elif size and target_size and size != target_size:
            problems.append(
                f"{image}: {size[1]}x{size[0]}, but its target {partner} is "
                f"{target_size[1]}x{target_size[0]}"
            )
        elif size and target_size:
            pairs.append(Sample(_name(image, degraded_folder), partner, image, *size))
    _report(problems, (*degraded.skipped, *target.skipped), on_error, "pair", len(pairs))
    return pairs


def find_images(folder: Path, pattern: str = "**/*", on_error: OnError = "raise") -> list[Sample]:
    """Find clean images by a pattern; see :func:`find_pairs` for the syntax.

    Raises:
        UserError: the folder is missing, or no file in it matches the pattern; with ``raise``, a
            file can't be read or is ambiguous; with ``skip``, no image remains.
    """
    found = _Matches(folder, pattern)
    keys = sorted(found.files)
    problems = [fault for key in keys for fault in found.faults(key)]
    sizes, unreadable = _probe([found.files[key][0] for key in keys if len(found.files[key]) == 1])
    samples = [Sample(_name(path, folder), path, None, *size) for path, size in sizes.items()]
    _report([*problems, *unreadable], found.skipped, on_error, "image", len(samples))
    return samples


def matches(name: str, pattern: str) -> bool:
    """Return whether a path relative to the folder matches a pattern; see :func:`find_pairs`."""
    return _match(_split_pattern(pattern), str(PurePosixPath(name).with_suffix(""))) is not None


class _Matches:
    """Files in a folder that match a pattern.

    ``files`` maps the text that the wildcards match to the paths with this text; several paths are
    ambiguous. ``skipped`` has the messages about skipped files and folders.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        parts = _split_pattern(pattern)
        if len(parts) // 2 > _MAX_WILDCARDS:
            raise UserError(
                f"the pattern '{pattern}' has more than {_MAX_WILDCARDS} wildcards: use **"
            )
        self.folder, self.pattern = folder, pattern
        self.files: defaultdict[Key, list[Path]] = defaultdict(list)
        listing = list_images(folder)
        for path in listing.files:
            if (key := _match(parts, _name(path, folder))) is not None:
                self.files[key].append(path)
        if not self.files:
            raise UserError(
                f"no image in {folder} matches the pattern '{pattern}': use a pattern that matches "
                f"names without the suffix, such as '{_name(listing.files[0], folder)}'"
            )
        unread = [p for p in listing.unread if _match(parts, _name(p, folder)) is not None]
        self.skipped = skip_messages(Listing([], unread, listing.closed), folder=folder)

    def faults(self, key: Key, other: "_Matches | None" = None) -> list[str]:
        """Return a list of at most one message about the files of a key."""
        paths = self.files.get(key, [])
        if len(paths) > 1:
            names = ", ".join(map(str, paths))
            return [f"{names}: ambiguous, because the names differ only in the suffix"]
        partners = 1 if other is None else len(other.files.get(key, []))
        if not paths or partners == 1:
            return []
        assert other is not None
        count = "more than one partner" if partners else "no partner"
        return [f"{paths[0]}: {count} in {other.folder} (pattern {other.pattern})"]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _split_pattern(pattern: str) -> list[str]:
    """Split a glob into literal text (even indices) and wildcards (odd indices)."""
    return re.split(r"(\*\*/|\*\*|\*|\?)", pattern)


def _match(parts: Sequence[str], name: str) -> Key | None:
    """Return the text that each wildcard matches (greedily), or ``None`` without a match.

    The cache keeps the time polynomial; ``re`` would take exponential time for many wildcards.
    """

    @cache
    def rest(number: int, start: int) -> Key | None:
        if not name.startswith(parts[number], start):
            return None
        start += len(parts[number])
        if number + 1 == len(parts):
            return () if start == len(name) else None
        for end in _ends(parts[number + 1], name, start):
            if (after := rest(number + 2, end)) is not None:
                return (name[start:end], *after)
        return None

    return rest(0, 0)


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


def _probe(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """Return the (height, width) of the readable files, and one message per unreadable file."""

    def probe(path: Path) -> tuple[int, int] | str:
        try:
            return probe_image(path)
        except UserError as error:
            return str(error)

    # Pillow's warnings would duplicate the error messages. The warnings filter is global to the
    # process, so it is set here and not in the threads.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(8) as pool:
        results = dict(zip(paths, pool.map(probe, paths), strict=True))
    sizes = {path: r for path, r in results.items() if not isinstance(r, str)}
    return sizes, [r for r in results.values() if isinstance(r, str)]


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
