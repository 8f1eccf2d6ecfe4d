"""Pairing files by name: two are a pair if the wildcards of their patterns match the same text."""

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mprnet_lit.images.listing import Listing, list_images, skipped
from mprnet_lit.images.reading import probe_image
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import printable

OnError = Literal["raise", "skip"]
Key = tuple[str, ...]
"""What each wildcard of a pattern matched."""
_SHOWN = 10
_MOST_WILDCARDS = 50


@dataclass(frozen=True)
class Pair:
    """A degraded image and its target, of one size; ``name`` is the former's path in its folder."""

    name: str
    degraded: Path
    target: Path
    height: int
    width: int


@dataclass(frozen=True)
class CleanImage:
    """A clean image; ``name`` is its path in its folder."""

    name: str
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Pairs:
    """The pairs, sorted by what the wildcards match.

    Attributes:
        pairs: the pairs.
        left_out: the problem with each file that was skipped because of an error.
        skipped: sentences that count the files of kinds that are not read.
    """

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class CleanImages:
    """The clean images, sorted by what the wildcards match; attributes as of :class:`Pairs`."""

    images: tuple[CleanImage, ...]
    left_out: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def find_pairs(
    degraded_folder: Path,
    target_folder: Path,
    degraded_pattern: str = "**/*",
    target_pattern: str = "**/*",
    on_error: OnError = "raise",
) -> Pairs:
    """Find the pairs in two folders, or in one by two patterns.

    Patterns are globs relative to the folder, without the file's suffix: a ``.png`` may pair with a
    ``.jpg``. ``*`` stands for any text within a name, ``?`` for one character, ``**/`` for any
    folders or none, ``**`` for any text at all. Upper and lower case differ.

    Args:
        degraded_folder: folder of the degraded images.
        target_folder: folder of the targets.
        degraded_pattern: which files are degraded images.
        target_pattern: which files are targets; with as many wildcards.
        on_error: ``raise``: name everything that is wrong in one error; ``skip``: leave it out.

    Raises:
        UserError: a folder is missing or nothing in it matches; with ``raise`` also files that are
            unmatched, unreadable, ambiguous, their own target, or of different sizes; with
            ``skip`` if no pair is left.
    """
    if len(_parts(degraded_pattern)) != len(_parts(target_pattern)):
        raise UserError(
            f"the patterns '{degraded_pattern}' and '{target_pattern}' have different numbers of "
            "wildcards: give them the same, as what those match is what pairs the files"
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
    _judge(problems, on_error, left=len(pairs), what="pair")
    passed_over = dict.fromkeys((*degraded.skipped, *target.skipped))  # once for a shared folder
    return Pairs(tuple(pairs), tuple(problems), tuple(passed_over))


def find_images(folder: Path, pattern: str = "**/*", on_error: OnError = "raise") -> CleanImages:
    """Find the images in a folder; arguments and errors as for :func:`find_pairs`."""
    side = _Side.scan(folder, pattern)
    keys = sorted(side.files)
    problems = [fault for key in keys for fault in side.faults(key)]
    sizes, unreadable = _probe([side.files[key][0] for key in keys if len(side.files[key]) == 1])
    problems += unreadable
    images = tuple(CleanImage(_name(path, folder), path, *size) for path, size in sizes.items())
    _judge(problems, on_error, left=len(images), what="image")
    return CleanImages(images, tuple(problems), side.skipped)


@dataclass(frozen=True)
class _Side:
    """The files in a folder that match a pattern, by the text that its wildcards match.

    ``skipped`` has a sentence for each sort of thing that was not read.
    """

    folder: Path
    pattern: str
    files: dict[Key, list[Path]]
    skipped: tuple[str, ...]

    @classmethod
    def scan(cls, folder: Path, pattern: str) -> "_Side":
        """Find the files; raise UserError if there is none."""
        parts = _parts(pattern)
        if len(parts) // 2 > _MOST_WILDCARDS:
            raise UserError(f"the pattern '{pattern}' has over {_MOST_WILDCARDS} wildcards: use **")
        files: defaultdict[Key, list[Path]] = defaultdict(list)
        found = list_images(folder)
        for path in found.files:
            if (key := _matched(parts, _name(path, folder))) is not None:
                files[key].append(path)
        if not files:
            raise UserError(
                f"no image in {folder} matches the pattern '{pattern}': make it match names there, "
                f"without their suffix, such as '{_name(found.files[0], folder)}'"
            )
        unread = [p for p in found.unread if _matched(parts, _name(p, folder)) is not None]
        listing = Listing(found.files, unread, found.closed)
        return cls(folder, pattern, dict(files), tuple(skipped(listing, folder=folder)))

    def faults(self, key: Key, other: "_Side | None" = None) -> list[str]:
        """Say what is wrong with the key's files on this side, in at most one line."""
        paths = self.files.get(key, [])
        if len(paths) > 1:
            names = ", ".join(map(str, paths))
            return [f"{names}: ambiguous, the pattern {self.pattern} takes them for one image"]
        if not paths or other is None:
            return []
        partners = len(other.files.get(key, []))
        lack = "no partner" if not partners else "more than one partner"
        where = f"{lack} in {other.folder} (pattern {other.pattern})"
        return [] if partners == 1 else [f"{paths[0]}: {where}"]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _parts(pattern: str) -> list[str]:
    """Split a glob: what stands between the wildcards, and at the odd places those."""
    return re.split(r"(\*\*/|\*\*|\*|\?)", pattern)


def _matched(parts: Sequence[str], name: str) -> Key | None:
    """Return what each wildcard matches, the first as much as it can; ``None`` if they don't.

    With ``re``, some patterns of many wildcards would take years.
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
    """Return where a wildcard that begins there may end, the farthest first."""
    if wildcard == "**/":
        ends = [start]
        while (slash := name.find("/", ends[-1])) > ends[-1]:
            ends.append(slash + 1)
        return ends[::-1]
    slash = name.find("/", start)
    last = len(name) if wildcard == "**" or slash < 0 else slash
    return [start + 1][: last - start] if wildcard == "?" else range(last, start - 1, -1)


def _probe(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """Return the sizes of the readable files, and what is wrong with the others."""

    def probe(path: Path) -> tuple[int, int] | str:
        try:
            return probe_image(path)
        except UserError as error:
            return str(error)

    # Pillow's warnings would only add to what is said of the files. The filter is the whole
    # process's, so it is set here rather than in the threads.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(8) as pool:
        results = dict(zip(paths, pool.map(probe, paths), strict=True))
    sizes = {path: r for path, r in results.items() if not isinstance(r, str)}
    return sizes, [r for r in results.values() if isinstance(r, str)]


def _judge(problems: Sequence[str], on_error: OnError, left: int, what: str) -> None:
    """Raise one error that names the problems, unless they may be skipped."""
    if not problems or (on_error == "skip" and left):
        return
    advice = (
        "mend them, or set data.on_error=skip to leave them out"
        if left
        else f"mend them, as no {what} is left without them"
    )
    shown = [f"  {printable(line)}" for line in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        shown.append(f"  and {len(problems) - _SHOWN} more")
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    raise UserError("\n".join([f"{count} with the {what}s: {advice}", *shown]))
