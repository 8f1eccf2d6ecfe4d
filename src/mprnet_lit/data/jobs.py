"""Which files to restore, and where each result goes."""

import os
from dataclasses import dataclass
from pathlib import Path

from mprnet_lit.data.images import IMAGE_SUFFIXES, list_images
from mprnet_lit.data.video import VIDEO_SUFFIXES
from mprnet_lit.errors import UserError

SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True)
class Job:
    """A photo or video, its name relative to the input, and the file to write."""

    source: Path
    name: str
    destination: Path

    @property
    def is_video(self) -> bool:
        """Tell by the suffix."""
        return self.source.suffix.lower() in VIDEO_SUFFIXES


def find_jobs(source: str, output: str) -> list[Job]:
    """Return what is to be restored.

    Args:
        source: a file, a folder (searched with its subfolders) or a glob such as ``in/**/*.jpg``.
        output: a file, if ``source`` is one and this has the suffix of an image or video; else a
            folder, in which names and subfolders are kept.

    Raises:
        UserError: there is no such file, or nothing in the folder, or a result would overwrite what
            it is made of.
    """
    path, target = Path(source), Path(output)
    if path.is_dir():
        names = list_images(path, SUFFIXES)
        place = _real(target)
        if _real(path) in place.parents:  # results of an earlier run
            names = [name for name in names if place not in _real(name).parents]
        jobs = [_job(name, path, target) for name in names]
    elif path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} is not an image or a video ({' '.join(sorted(SUFFIXES))})")
        is_file = target.suffix.lower() in SUFFIXES and not target.is_dir()
        jobs = [Job(path, path.name, target) if is_file else _job(path, path.parent, target)]
    elif any(sign in source for sign in "*?["):
        fixed = Path(*_before_wildcards(path.parts))
        jobs = [_job(match, fixed, target) for match in _matches(fixed, path)]
    else:
        raise UserError(f"there is no file or folder {source}: check input")
    if not jobs:
        raise UserError(f"nothing matches {source} that is an image or a video: check input")
    sources = {_real(job.source) for job in jobs}
    for job in jobs:
        if _real(job.destination) in sources:
            raise UserError(
                f"{job.destination} would be overwritten, but is among the input: "
                "set output to another folder"
            )
    return jobs


def _job(path: Path, root: Path, output: Path) -> Job:
    name = path.relative_to(root)
    return Job(path, name.as_posix(), output / name)


def _real(path: Path) -> Path:
    """Return where links lead; those that lead nowhere, unlike with ``resolve``, too."""
    return Path(os.path.realpath(path))


def _matches(fixed: Path, pattern: Path) -> list[Path]:
    """Return the photos and videos that a glob below a folder matches, as a shell does.

    ``**`` does not enter folders that are links, which may lead in circles.
    """
    rest = Path(*pattern.parts[len(fixed.parts) :])
    if ".." in rest.parts:
        raise UserError(f"input={pattern} has '..' after a wildcard: name the folder before it")
    if rest.name == "**":  # by itself it would match folders alone
        rest /= "*"
    hidden = _is_hidden(rest)
    try:
        found = [path for path in fixed.glob(str(rest)) if path.suffix.lower() in SUFFIXES]
    except ValueError as error:
        raise UserError(f"input={pattern} can't be used ({error}): change it") from error
    shown = (p for p in found if hidden or not _is_hidden(p.relative_to(fixed)))
    return sorted(path for path in shown if not path.is_dir())


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _before_wildcards(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders of a glob that have no wildcard; what follows is kept in the output."""
    for count, part in enumerate(parts):
        if any(sign in part for sign in "*?["):
            return parts[:count]
    return parts[:-1]
