"""Pairing files by name: two are a pair if the wildcards of their patterns match the same text."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mprnet_lit.data.images import list_images, probe_image
from mprnet_lit.errors import UserError

OnError = Literal["raise", "skip"]
Key = tuple[str, ...]
"""What each wildcard of a pattern matched."""
_SHOWN = 10


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
    """What was found, sorted by name, and what was left out, in words."""

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class CleanImages:
    """What was found, sorted by name, and what was left out, in words."""

    images: tuple[CleanImage, ...]
    left_out: tuple[str, ...]


def find_pairs(
    degraded_folder: Path,
    target_folder: Path,
    degraded_pattern: str = "**/*",
    target_pattern: str = "**/*",
    on_error: OnError = "raise",
) -> Pairs:
    """Find the pairs in two folders, or in one by two patterns.

    Patterns are globs (``*``, ``?``, ``**/``) relative to the folder, without the file's suffix: a
    ``.png`` may pair with a ``.jpg``.

    Args:
        degraded_folder: folder of the degraded images.
        target_folder: folder of the targets.
        degraded_pattern: which files are degraded images.
        target_pattern: which files are targets; with as many wildcards.
        on_error: ``raise``: name everything that is wrong in one error; ``skip``: leave it out.

    Raises:
        UserError: a folder is missing or nothing in it matches; with ``raise`` also files that are
            unmatched, unreadable, ambiguous, or of different sizes; with ``skip`` if no pair is
            left.
    """
    degraded, problems = _by_key(degraded_folder, degraded_pattern)
    target, more = _by_key(target_folder, target_pattern)
    problems += more
    if _wildcards(degraded_pattern) != _wildcards(target_pattern):
        raise UserError(
            f"the patterns '{degraded_pattern}' and '{target_pattern}' have different numbers of "
            "wildcards: give them the same, as what those match is what pairs the files"
        )
    for here, there, folder, pattern in (
        (degraded, target, target_folder, target_pattern),
        (target, degraded, degraded_folder, degraded_pattern),
    ):
        problems += [
            f"{here[key]}: no partner in {folder} (pattern {pattern})"
            for key in sorted(here.keys() - there.keys())
        ]
    keys = sorted(degraded.keys() & target.keys())
    sizes, unreadable = _probe([d[key] for key in keys for d in (degraded, target)])
    problems += unreadable
    pairs = []
    for key in keys:
        first, second = sizes.get(degraded[key]), sizes.get(target[key])
        if first and second and first == second:
            name = _name(degraded[key], degraded_folder)
            pairs.append(Pair(name, degraded[key], target[key], *first))
        elif first and second:
            problems.append(
                f"{degraded[key]}: {first[1]}x{first[0]}, but its target {target[key]} is "
                f"{second[1]}x{second[0]}"
            )
    _judge(problems, on_error, left=len(pairs), what="pair")
    return Pairs(tuple(pairs), tuple(problems))


def find_images(folder: Path, pattern: str = "**/*", on_error: OnError = "raise") -> CleanImages:
    """Find the images in a folder; arguments and errors as for :func:`find_pairs`."""
    found, problems = _by_key(folder, pattern)
    sizes, unreadable = _probe(list(found.values()))
    problems += unreadable
    images = tuple(
        CleanImage(_name(path, folder), path, *sizes[path])
        for path in sorted(found.values())
        if path in sizes
    )
    _judge(problems, on_error, left=len(images), what="image")
    return CleanImages(images, tuple(problems))


def _by_key(folder: Path, pattern: str) -> tuple[dict[Key, Path], list[str]]:
    """Return the files by the text that the wildcards match, and those that share it."""
    expression = _expression(pattern)
    found: defaultdict[Key, list[Path]] = defaultdict(list)
    for path in list_images(folder):
        if match := expression.fullmatch(_name(path, folder)):
            found[match.groups()].append(path)
    if not found:
        raise UserError(f"no image in {folder} matches the pattern '{pattern}': check it")
    problems = [
        f"{', '.join(map(str, paths))}: ambiguous, the pattern {pattern} takes them for one image"
        for paths in found.values()
        if len(paths) > 1
    ]
    return {key: paths[0] for key, paths in found.items() if len(paths) == 1}, problems


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _expression(pattern: str) -> re.Pattern[str]:
    """Turn a glob into an expression with a group for each wildcard."""
    groups = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}
    parts = re.split(r"(\*\*/|\*|\?)", pattern)
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts))


def _wildcards(pattern: str) -> int:
    return _expression(pattern).groups


def _probe(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """Return the sizes of the readable files, and what is wrong with the others."""

    def probe(path: Path) -> tuple[int, int] | str:
        try:
            return probe_image(path)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        results = dict(zip(paths, pool.map(probe, paths), strict=True))
    sizes = {path: r for path, r in results.items() if not isinstance(r, str)}
    return sizes, [r for r in results.values() if isinstance(r, str)]


def _judge(problems: Iterable[str], on_error: OnError, left: int, what: str) -> None:
    lines = list(problems)
    if lines and (on_error == "raise" or not left):
        advice = (
            "mend them, or set data.on_error=skip to leave them out" if left else "none is left"
        )
        shown = [f"  {line}" for line in lines[:_SHOWN]]
        if len(lines) > _SHOWN:
            shown.append(f"  and {len(lines) - _SHOWN} more")
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        raise UserError("\n".join([f"{count} with the {what}s: {advice}", *shown]))
