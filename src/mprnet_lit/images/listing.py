"""Recursive listing of image files, with a count of unsupported files."""

import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mprnet_lit.images.formats import IMAGE_SUFFIXES
from mprnet_lit.utils.errors import UserError

_IMAGE_OR_VIDEO = re.compile(
    r"\.(3fr|apng|arw|avif|bmp|cr2|cr3|crw|dng|erf|exr|gif|hdr|heic|heif|iiq|j2k|jfif|jp2|jpe|jpeg|"
    r"jpg|jpx|jxl|kdc|mpo|nef|nrw|orf|pbm|pef|pgm|png|pnm|ppm|psd|qoi|raf|raw|rw2|sr2|srw|tga|tif|"
    r"tiff|webp|x3f|3gp|avi|flv|m2ts|m4v|mkv|mov|mp4|mpeg|mpg|mts|mxf|ogv|vob|webm|wmv|y4m)"
)
"""Suffixes of images and videos. Unsupported files with these suffixes are reported."""


@dataclass(frozen=True)
class Listing:
    """Files and folders that a search found.

    Attributes:
        files: sorted paths of the files with the requested suffixes.
        unread: sorted paths of the images and videos with other suffixes.
        closed: sorted paths of the folders that could not be opened.
    """

    files: list[Path]
    unread: list[Path]
    closed: list[Path]


@dataclass(frozen=True)
class Names:
    """Names of the files that a search found.

    Attributes:
        files: sorted names, relative to the folder and with slashes, of the files with the
            requested suffixes.
        unread: such names of the images and videos with other suffixes.
        closed: sorted paths of the folders that could not be opened.
    """

    files: list[str]
    unread: list[str]
    closed: list[Path]


def is_image(name: str) -> bool:
    """Return whether a file name has the suffix of a supported image format."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Listing:
    """List the image files in a folder and its subfolders.

    Hidden files and folders are skipped. Symbolic links to folders are followed, but no folder is
    listed twice.

    Raises:
        UserError: ``folder`` does not exist, is not a folder, or contains no images.
    """
    found = list_names(folder, suffixes)
    files, unread = ([folder / name for name in names] for names in (found.files, found.unread))
    return Listing(files, unread, found.closed)


def list_names(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Names:
    """List the names of the files as :func:`list_images` does, without an object per path.

    Raises:
        UserError: ``folder`` does not exist, is not a folder, or contains no images.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        archive = {".zip": "zip", ".tar": "tar", ".gz": "tar", ".tgz": "tar"}.get(folder.suffix)
        hint = f"use {archive}::{folder}" if folder.exists() and archive else "check the path"
        raise UserError(f"the folder {folder} {what}: {hint}")
    closed: list[Path] = []
    files: list[str] = []
    unread: list[str] = []
    for inside, names in walk(folder, closed):
        parent = inside.relative_to(folder).as_posix()
        prefix = "" if parent == "." else f"{parent}/"
        for name in names:
            kind = _kind(name, suffixes)
            if kind is not None:
                (files if kind else unread).append(prefix + name)
    for found in (files, unread):
        found.sort(key=lambda name: name.replace("/", "\0"))  # the order of paths
    if not files:
        others = f", only {count_suffixes(map(Path, unread))}" if unread else ""
        raise UserError(
            f"the folder {folder} contains no images ({' '.join(sorted(suffixes))}){others}: "
            "check the path"
        )
    return Names(files, unread, sorted(closed))


def split_by_suffix(
    paths: Iterable[Path], suffixes: frozenset[str], closed: Sequence[Path]
) -> Listing:
    """Split files into supported and unsupported ones by suffix, and skip unknown suffixes."""
    files: list[Path] = []
    unread: list[Path] = []
    for path in paths:
        kind = _kind(path.name, suffixes)
        if kind is not None:
            (files if kind else unread).append(path)
    return Listing(sorted(files), sorted(unread), sorted(closed))


def _kind(name: str, suffixes: frozenset[str]) -> bool | None:
    """Return whether the suffix is one of ``suffixes``; ``None`` if it is not that of an image."""
    stem, dot, suffix = name.rpartition(".")
    suffix = f".{suffix.lower()}" if stem and dot else ""
    if suffix in suffixes:
        return True
    return False if _IMAGE_OR_VIDEO.fullmatch(suffix) else None


def walk(
    root: Path, closed: list[Path], *, hidden: bool = False
) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder and the names of its files.

    Symbolic links to folders are followed last, so that each file has its shortest path. No folder
    is visited twice, even if links form a cycle.

    Args:
        root: top folder of the tree.
        closed: list to which folders that can't be opened are appended.
        hidden: whether to include names that begin with a dot.
    """

    def on_error(error: OSError) -> None:
        closed.append(Path(error.filename))

    entered: set[tuple[int, int] | str] = set()
    tops = deque([root])  # the root, and links to folders
    while tops:
        for name, folders, names in os.walk(tops.popleft(), onerror=on_error):
            folder = Path(name)
            status = folder.stat()
            # Some network drives of Windows have no numbers of files.
            identity = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)
            if identity in entered:
                folders.clear()
                continue
            entered.add(identity)
            folders[:] = sorted(each for each in folders if hidden or each[0] != ".")
            tops += [folder / each for each in folders if (folder / each).is_symlink()]
            yield folder, sorted(each for each in names if hidden or each[0] != ".")


def count_suffixes(unread: Iterable[Path]) -> str:
    """Return the number of files per suffix, most frequent first, such as "2 .heic, 1 .gif"."""
    kinds = Counter(path.suffix.lower() for path in unread)
    return ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items(), key=lambda k: (-k[1], k)))


def skip_messages(listing: Listing, what: str = "images", folder: Path | None = None) -> list[str]:
    """Return messages about the files and folders that a search skipped."""
    where = "" if folder is None else f" (in {folder})"
    lines = []
    if listing.unread:
        count = len(listing.unread)
        files = "1 file that is not one of the" if count == 1 else f"{count} files that are not"
        lines.append(f"Skipped {files} supported {what}: {count_suffixes(listing.unread)}{where}")
    if listing.closed:
        names = ", ".join(map(str, listing.closed[:3])) + (", ..." if listing.closed[3:] else "")
        lines.append(f"Skipped folders that can't be opened: {names}")
    return lines
