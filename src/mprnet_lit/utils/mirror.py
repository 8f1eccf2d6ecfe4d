"""Local copies of files at URLs.

All readers and writers of this package use local files, which can be memory-mapped, read by worker
processes and compared with records. A copy is downloaded again only if it changed.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mprnet_lit.utils.atomic import write_errors
from mprnet_lit.utils.cache import CACHE, cache_folder
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.remote import Info, Location, version
from mprnet_lit.utils.text import exceeding
from mprnet_lit.utils.url import ARCHIVES, is_url, local_path, shown

log = logging.getLogger(__name__)

_VERSIONS = ".versions.jsonl"
"""File with the versions of the copied files, as JSON lines: name, version, time of the copy."""
_THREADS = 8
_urls: dict[str, str] = {}
"""Address of each local folder that this process used, without credentials."""


def readable(text: str) -> str:
    """Replace the local folders in a message by the addresses of their files."""
    for folder, url in sorted(_urls.items(), reverse=True):
        text = text.replace(folder, url)
    return text


def name_in_messages(path: Path, url: str) -> None:
    """Let :func:`readable` replace a local path by an address without credentials."""
    _urls[str(path)] = url


def fetch(
    place: str | Path,
    is_file: Callable[[str], bool] = lambda name: True,
    keep: Callable[[str], bool] = lambda name: True,
    without: str | None = None,
) -> Path:
    """Download the new and changed files at a URL; return a local path unchanged.

    Args:
        place: local path, or URL of a file, a folder or a glob.
        is_file: function that returns whether a file name is wanted, by its suffix; by default,
            every file is.
        keep: function that returns whether a name relative to a folder is wanted.
        without: URL of a folder whose files are skipped.

    Returns:
        Path of the local copy: of the file, or of a folder with the same subfolders.

    Raises:
        UserError: the address does not exist, can't be read or has no wanted file, or the disk
            has too little space.
    """
    url = str(place)
    if not is_url(url):
        return Path(place)
    if (path := local_path(url)) is not None:
        return Path(path)
    location = _located(url)
    single, found = location.find(is_file)
    wanted = {n: i for n, i in found.items() if single or (is_file(n) and keep(n))}
    if without is not None and is_url(without):
        other = Location(without)
        inner = other.path.rstrip("/") + "/"
        if other.fs == location.fs:
            found = {n: i for n, i in found.items() if not str(i["name"]).startswith(inner)}
            wanted = {n: i for n, i in wanted.items() if n in found}
    if not wanted:
        raise UserError(f"{location.name} has no matching file: check the address and the pattern")
    folder = local_folder(url, "downloads")
    from filelock import FileLock

    with write_errors(folder, "into"):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # the processes of a training download each file once
            _download(location, folder, wanted)
            if not single:
                _remove(folder, found)
    if not single:
        return folder
    copy = folder / next(iter(wanted))
    name_in_messages(copy, location.name)
    return copy


def _absolute(url: str) -> str:
    """Return the address of a local archive with the absolute path of its file."""
    outer, separator, inner = url.partition("::")
    return f"{outer}::{Path(inner).absolute()}" if separator and not is_url(inner) else url


def _located(url: str) -> Location:
    """Open a URL. An archive at a URL is downloaded first, since its members need random access."""
    outer, _, inner = url.partition("::")
    protocol = outer.partition("://")[0]
    if protocol not in ARCHIVES or not inner:
        return Location(url)
    local = fetch(inner)
    if not local.is_file():
        what = "is not a file" if local.exists() else "does not exist"
        raise UserError(f"the archive {shown(inner)} {what}: check the address")
    return Location(url, f"{outer}::{local}")


def threads(location: Location) -> int:
    """Return the number of threads; other file systems than asynchronous ones need a single one."""
    return _THREADS if getattr(location.fs, "async_impl", False) else 1


def local_folder(url: str, kind: str) -> Path:
    """Return the local folder of a URL, named by the address and a digest.

    The absolute path of a local archive distinguishes it from those with the same name.
    """
    name = re.sub(r"[^\w.]+", "-", shown(url))[-60:].strip("-.")
    digest = hashlib.sha256(_absolute(url).encode()).hexdigest()[:12]
    folder = cache_folder() / kind / f"{name}-{digest}"
    name_in_messages(folder, shown(url).rstrip("/"))
    return folder


def _download(location: Location, folder: Path, wanted: dict[str, Info]) -> None:
    """Download the files that are missing or have another version than the local copy."""
    known = read_versions(folder)

    def described(info: Info) -> Info:
        if info.get("size") is None:  # index pages of web servers have no sizes
            info = (location.describe(info["name"]) or {}) | {"name": info["name"]}
        return info

    with ThreadPoolExecutor(threads(location)) as pool:
        infos = dict(zip(wanted, pool.map(described, wanted.values()), strict=True))
        todo = {
            name: info
            for name, info in infos.items()
            if version(info) is None
            or known.get(name, ("", 0))[0] != version(info)
            or not (folder / name).is_file()
        }
        if not todo:
            return
        size = sum(info.get("size") or 0 for info in todo.values())
        if size > (free := shutil.disk_usage(folder).free):
            needed, room = exceeding(size / 1e6, free / 1e6)
            raise UserError(
                f"the copy of {location.name} needs {needed} MB, but the disk of {cache_folder()} "
                f"has {room} MB free: free disk space or set {CACHE}"
            )
        count = "1 file" if len(todo) == 1 else f"{len(todo)} files"
        log.info("Downloading %s (%.1f MB) from %s", count, size / 1e6, location.name)

        def download(name: str) -> None:
            info = todo[name]
            location.download(str(info["name"]), folder / name, info.get("size"))
            remember(folder, name, version(info) or "")

        try:
            for done in [pool.submit(download, name) for name in todo]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _remove(folder: Path, found: dict[str, Info]) -> None:
    """Remove the copies of files that no longer exist at the URL."""
    for name in read_versions(folder).keys() - found.keys():
        (folder / name).unlink(missing_ok=True)


def read_versions(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the recorded versions, and the modification times of the local files, by name."""
    return read_versions_from(folder, 0)[0]


def read_versions_from(folder: Path, start: int) -> tuple[dict[str, tuple[str, int]], int]:
    """Return the versions that are recorded from byte ``start`` on, and the next start.

    The next start is that of the last line, which another process may be writing.
    """
    path, found = folder / _VERSIONS, {}
    if not path.is_file():
        return {}, 0
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    for line in content.splitlines():
        with suppress(ValueError):  # line cut off by a killed process
            name, value, modified = json.loads(line)
            found[name] = (value, modified)
    return found, start + max(content.rfind(b"\n"), 0)


def remember(folder: Path, name: str, value: str) -> None:
    """Record the version of a copied file. A line that a killed process cut off is ended first."""
    with write_errors(folder / _VERSIONS), (folder / _VERSIONS).open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps([name, value, (folder / name).stat().st_mtime_ns]))
