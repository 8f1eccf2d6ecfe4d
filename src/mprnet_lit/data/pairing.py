"""Find pairs of degraded and target images by the text that the wildcards of patterns match."""

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mprnet_lit.images.listing import Listing, list_images, skip_messages
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import printable

OnError = Literal["raise", "skip"]
Key = tuple[str, ...]
"""Text that each wildcard of a pattern matched."""
_SHOWN = 10
"""Maximum number of problems that an error lists."""
_MOST_WILDCARDS = 50


@dataclass(frozen=True)
class Pair:
    """A degraded image and its target, both of the same size.

    Attributes:
        name: path of the degraded image, relative to its folder and without the suffix.
        degraded: path of the degraded image.
        target: path of the target.
        height: height in pixels.
        width: width in pixels.
    """

    name: str
    degraded: Path
    target: Path
    height: int
    width: int


@dataclass(frozen=True)
class CleanImage:
    """A clean image.

    Attributes:
        name: path relative to its folder, without the suffix.
        path: path of the file.
        height: height in pixels.
        width: width in pixels.
    """

    name: str
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Pairs:
    """Result of :func:`find_pairs`.

    Attributes:
        pairs: pairs, sorted by the text that the wildcards match.
        problems: one message per faulty file that was skipped.
        skipped: one message per type of file that is not read, with the number of its files.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class CleanImages:
    """Result of :func:`find_images`.

    Attributes:
        images: images, sorted by the text that the wildcards match.
        problems: one message per faulty file that was skipped.
        skipped: one message per type of file that is not read, with the number of its files.
    """

    images: tuple[CleanImage, ...]
    problems: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def find_pairs(
    degraded_folder: Path,
    target_folder: Path,
    degraded_pattern: str = "**/*",
    target_pattern: str = "**/*",
    on_error: OnError = "raise",
) -> Pairs:
    """Find image pairs in two folders, or in one folder by two patterns.

    Two files are a pair if the wildcards of their patterns match the same text. Patterns are globs
    relative to the folder, without the suffix of the file, so that a ``.png`` may pair with a
    ``.jpg``. ``*`` matches any text without a slash, ``?`` one character, ``**/`` any number of
    folders, and ``**`` any text. Matching is case-sensitive.

    Args:
        degraded_folder: folder of the degraded images.
        target_folder: folder of the targets.
        degraded_pattern: pattern of the degraded images.
        target_pattern: pattern of the targets, with the same number of wildcards.
        on_error: ``raise`` to list all problems in one error, or ``skip`` to skip faulty files.

    Raises:
        UserError: a folder is missing, or no file in it matches the pattern; with ``raise``, a
            file has no partner, can't be read, is ambiguous, is its own target, or differs in size
            from its target; with ``skip``, no pair remains.
    """
    if len(_parts(degraded_pattern)) != len(_parts(target_pattern)):
        raise UserError(
            f"the patterns '{degraded_pattern}' and '{target_pattern}' must have the same number "
            "of wildcards, because two files are a pair if their wildcards match the same text"
        )
    degraded = _Side.scan(degraded_folder, degraded_pattern)
    target = _Side.scan(target_folder, target_pattern)
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
        first, second = sizes.get(image), sizes.get(partner)
        if image == partner:
            problems.append(f"{image}: both patterns match it, so it would be its own target")
        elif first and second and first != second:
            problems.append(
                f"{image}: {first[1]}x{first[0]}, but its target {partner} is "
                f"{second[1]}x{second[0]}"
            )
        elif first and second:
            pairs.append(Pair(_name(image, degraded_folder), image, partner, *first))
    _raise_problems(problems, on_error, remaining=len(pairs), what="pair")
    unread = dict.fromkeys((*degraded.skipped, *target.skipped))  # once for a shared folder
    return Pairs(tuple(pairs), tuple(problems), tuple(unread))


def find_images(folder: Path, pattern: str = "**/*", on_error: OnError = "raise") -> CleanImages:
    """Find the images in a folder.

    Args:
        folder: folder of the images.
        pattern: glob relative to the folder, without the suffix; see :func:`find_pairs`.
        on_error: ``raise`` to list all problems in one error, or ``skip`` to skip faulty files.

    Raises:
        UserError: the folder is missing, or no file in it matches the pattern; with ``raise``, a
            file can't be read or is ambiguous; with ``skip``, no image remains.
    """
    side = _Side.scan(folder, pattern)
    keys = sorted(side.files)
    problems = [fault for key in keys for fault in side.faults(key)]
    sizes, unreadable = _probe([side.files[key][0] for key in keys if len(side.files[key]) == 1])
    problems += unreadable
    images = tuple(CleanImage(_name(path, folder), path, *size) for path, size in sizes.items())
    _raise_problems(problems, on_error, remaining=len(images), what="image")
    return CleanImages(images, tuple(problems), side.skipped)


@dataclass(frozen=True)
class _Side:
    """Files in a folder that match a pattern.

    Attributes:
        folder: folder of the files.
        pattern: glob of the files.
        files: paths by the text that the wildcards match; more than one path is ambiguous.
        skipped: one message per type of file that is not read.
    """

    folder: Path
    pattern: str
    files: dict[Key, list[Path]]
    skipped: tuple[str, ...]

    @classmethod
    def scan(cls, folder: Path, pattern: str) -> "_Side":
        """Find the files.

        Raises:
            UserError: no file matches, or the pattern has too many wildcards.
        """
        parts = _parts(pattern)
        if len(parts) // 2 > _MOST_WILDCARDS:
            raise UserError(
                f"the pattern '{pattern}' has more than {_MOST_WILDCARDS} wildcards: use **"
            )
        files: defaultdict[Key, list[Path]] = defaultdict(list)
        found = list_images(folder)
        for path in found.files:
            if (key := _matched(parts, _name(path, folder))) is not None:
                files[key].append(path)
        if not files:
            raise UserError(
                f"no image in {folder} matches the pattern '{pattern}': use a pattern that matches "
                f"names without the suffix, such as '{_name(found.files[0], folder)}'"
            )
        unread = [p for p in found.unread if _matched(parts, _name(p, folder)) is not None]
        listing = Listing(found.files, unread, found.closed)
        return cls(folder, pattern, dict(files), tuple(skip_messages(listing, folder=folder)))

    def faults(self, key: Key, other: "_Side | None" = None) -> list[str]:
        """Return the problem with the files of a key on this side: at most one message."""
        paths = self.files.get(key, [])
        if len(paths) > 1:
            names = ", ".join(map(str, paths))
            return [f"{names}: ambiguous, because {self.pattern} matches them as the same image"]
        if not paths or other is None:
            return []
        partners = len(other.files.get(key, []))
        count = "no partner" if not partners else "more than one partner"
        problem = f"{paths[0]}: {count} in {other.folder} (pattern {other.pattern})"
        return [] if partners == 1 else [problem]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _parts(pattern: str) -> list[str]:
    """Split a glob into literal text (even indices) and wildcards (odd indices)."""
    return re.split(r"(\*\*/|\*\*|\*|\?)", pattern)


def _matched(parts: Sequence[str], name: str) -> Key | None:
    """Return the text that each wildcard matches (greedily), or ``None`` without a match.

    The cache bounds the time; ``re`` would take exponential time for many wildcards.
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


def _raise_problems(problems: Sequence[str], on_error: OnError, remaining: int, what: str) -> None:
    """Raise one UserError that lists the problems, unless they can be skipped."""
    if not problems or (on_error == "skip" and remaining):
        return
    advice = (
        "fix them, or set on_error='skip' to skip these files"
        if remaining
        else f"fix them, because no {what} remains without these files"
    )
    shown = [f"  {printable(line)}" for line in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        shown.append(f"  and {len(problems) - _SHOWN} more")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise UserError("\n".join([f"{count} with the {what}s: {advice}", *shown]))
