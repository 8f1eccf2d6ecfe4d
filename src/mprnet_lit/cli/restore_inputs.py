"""Search for the files to restore, and paths of their results."""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path

from mprnet_lit.cli.restore_record import Records
from mprnet_lit.images.formats import IMAGE_SUFFIXES, convert_hint, is_unsupported_image
from mprnet_lit.images.listing import (
    Listing,
    count_suffixes,
    list_images,
    skip_messages,
    split_by_suffix,
    walk,
)
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import RealPathCache
from mprnet_lit.video.restore import VIDEO_SUFFIXES

SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_LONGEST_NAME = 255
"""Maximum length of a file name on common file systems, in bytes."""


@dataclass(frozen=True)
class Job:
    """Photo or video to restore.

    Attributes:
        source: path of the photo or video.
        name: path relative to the input folder.
        destination: path of the result.
        beside: kinds of additional images of a photo: ``compare``, ``stage1``, ...
    """

    source: Path
    name: str
    destination: Path
    beside: tuple[str, ...] = ()

    @property
    def is_video(self) -> bool:
        """Whether the source is a video, by its suffix."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES

    @property
    def files(self) -> list[Path]:
        """Files to write, the result first."""
        if self.is_video:
            return [self.destination]
        return [self.destination, *(beside(self.destination, what) for what in self.beside)]


def beside(destination: Path, what: str) -> Path:
    """Return the path of an additional image of a result, such as ``compare`` or ``stage1``."""
    name = f"{destination.name}.{what}.png"
    excess = len(os.fsencode(name)) - _LONGEST_NAME
    if excess > 0:
        raise UserError(
            f"{destination}: the name of its {what} would be {excess} bytes too long: shorten the "
            "name, or set restore.stages and restore.compare to false"
        )
    return destination.with_name(name)


def find_jobs(
    source: str | Sequence[str],
    output: str,
    beside: Sequence[str] = (),
    note: Callable[[str], None] = lambda line: None,
) -> list[Job]:
    """Find the files to restore; skip results of earlier calls if their sources are found too.

    Args:
        source: file, folder (searched recursively) or glob such as ``in/**/*.jpg``, or a list.
        output: file, if ``source`` is one file and ``output`` has the suffix of an image or video;
            otherwise folder, in which file names and subfolders are preserved.
        beside: kinds of additional images to write for each photo.
        note: function that receives a line about each kind of skipped file.
    """
    sources = [source] if isinstance(source, str) else list(source)
    if not sources:
        raise UserError("input is empty: name a photo, a video, a folder or a glob")
    target, jobs = Path(output), list[Job]()
    if len(sources) > 1 and target.suffix.lower() in SUFFIXES and not target.is_dir():
        raise UserError(
            f"output={output} is one file, but input has several: set output to a folder"
        )
    for each in sources:
        jobs += _find(each, target, len(sources) == 1, tuple(beside), note)
    return _checked(jobs)


def _find(
    source: str, target: Path, alone: bool, beside: tuple[str, ...], note: Callable[[str], None]
) -> list[Job]:
    """Return the jobs of one source."""
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            hint = f": {convert_hint(path)}" if is_unsupported_image(path) else ""
            raise UserError(
                f"{path} is not an image or a video ({' '.join(sorted(SUFFIXES))}){hint}"
            )
        is_file = alone and target.suffix.lower() in SUFFIXES and not target.is_dir()
        return [Job(path, path.name, target if is_file else target / path.name, beside)]
    if path.is_dir():
        root, output, found = path, target, list_images(path, SUFFIXES)
    elif has_magic(source):
        output = None
        root, found = _matches(path)
    else:
        raise UserError(f"there is no file or folder {source}: check input")
    for line in skip_messages(found, "images or videos"):
        note(line)
    files = _without_results(found.files, root, output)
    if (skipped := len(found.files) - len(files)) > 0:
        note(f"Skipped results of earlier calls and files in the output: {skipped}")
    if not files:
        others = f", only {count_suffixes(found.unread)}" if found.unread else ""
        others = ", only results of earlier calls" if found.files else others
        raise UserError(f"no image or video matches {source}{others}: check input")
    names = [file.relative_to(root).as_posix() for file in files]
    return [Job(root / name, name, target / name, beside) for name in names]


def _checked(jobs: list[Job]) -> list[Job]:
    """Return the jobs without duplicates; check that no result overwrites another file."""
    real = RealPathCache()
    sources = {real(job.source) for job in jobs}
    by_name: dict[str, list[str]] = {}
    for source in sources:
        by_name.setdefault(_folded(source), []).append(source)
    kept: dict[str, Job] = {}
    distinct: list[Job] = []
    for job in jobs:
        keys = {_folded(file): file for file in job.files}
        other = next((kept[key] for key in keys if key in kept), None)
        if other is not None and real(job.source) == real(other.source):
            continue  # duplicate
        if other is not None:
            raise UserError(
                f"{other.source} and {job.source} would both be restored to {job.destination}: "
                "rename one of them, or restore them into two folders"
            )
        for file in keys.values():
            spellings = by_name.get(_folded(real(file)), ())
            if real(file) in sources or any(_is_same(file, each) for each in spellings):
                raise UserError(
                    f"{file} would be overwritten, but is an input file: "
                    "set output to another folder"
                )
        kept |= dict.fromkeys(keys, job)
        distinct.append(job)
    return distinct


def _folded(path: Path | str) -> str:
    """Return a path as a file system sees it that ignores case and normalizes Unicode."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _is_same(file: Path, source: str) -> bool:
    """Return whether a path leads to a source, whose name may have another spelling."""
    return file.exists() and file.samefile(source)


def _without_results(files: list[Path], root: Path, output: Path | None) -> list[Path]:
    """Return the files that are not results of earlier calls.

    Removes results whose sources are in ``root`` too, comparisons, stages, and, if ``output`` is
    inside ``root``, all files in ``output``.
    """
    records = Records()
    real_root = Path(records.real(root))
    real_output = real_root if output is None else Path(records.real(output))
    has_inner_output = real_output != real_root and real_output.is_relative_to(real_root)

    def is_result(file: Path) -> bool:
        record = records.of(file.parent)
        if has_inner_output and record.folder.is_relative_to(real_output):
            return True
        result = record.find(file.name)
        if result is None:
            return False
        source = record.path_of(result)
        is_main = file.name == min(result.files, key=len)
        return not is_main or (source.is_relative_to(real_root) and source.exists())

    return [file for file in files if not is_result(file)]


def _matches(pattern: Path) -> tuple[Path, Listing]:
    """Return the folder above the first wildcard of a glob, and the matching files.

    The syntax is that of a shell. ``**`` follows links to folders and enters each real folder once.
    """
    parts = pattern.parts
    count = next((n for n, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
    root, rest = Path(*parts[:count]), list(parts[count:])
    if ".." in rest:
        raise UserError(
            f"input={pattern} has '..' after a wildcard: use '..' only before the first wildcard"
        )
    rest = [part for n, part in enumerate(rest) if rest[n : n + 2] != ["**", "**"]]
    if rest[-1] == "**":  # a trailing ** would match folders only
        rest.append("*")
    closed: list[Path] = []
    hidden = any(part.startswith(".") for part in rest)
    try:
        found = dict.fromkeys(_expand(root, rest, hidden, closed))
    except ValueError as error:
        raise UserError(f"input={pattern} can't be used ({error}): change it") from error
    return root, split_by_suffix(found, SUFFIXES, closed)


def _expand(folder: Path, parts: Sequence[str], hidden: bool, closed: list[Path]) -> Iterator[Path]:
    """Yield the files in a folder that match the remaining parts of a glob."""
    part, *rest = parts
    if part == "**":
        for inside, names in walk(folder, closed, hidden=hidden):
            if len(rest) > 1:
                yield from _expand(inside, rest, hidden, closed)
            else:
                yield from (inside / name for name in names if fnmatch(name, rest[0]))
        return
    try:
        names = sorted(entry.name for entry in os.scandir(folder)) if has_magic(part) else [part]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        closed.append(folder)
        return
    for name in names:
        if not (name == part or fnmatch(name, part)) or (name[0] == "." and not hidden):
            continue
        path = folder / name
        if rest:
            yield from _expand(path, rest, hidden, closed)
        elif os.path.lexists(path) and not path.is_dir():
            yield path
