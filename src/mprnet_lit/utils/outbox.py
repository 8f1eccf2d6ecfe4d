"""Uploads of results to URLs. A file is uploaded again only if it changed."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mprnet_lit.utils.atomic import staging, write_errors
from mprnet_lit.utils.cache import cache_folder
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.mirror import (
    local_folder,
    name_in_messages,
    read_versions_from,
    readable,
    remember,
    threads,
)
from mprnet_lit.utils.remote import Info, Location, version
from mprnet_lit.utils.url import is_url, local_path

_RECORDED = 0.5
"""Seconds in which another process records the version of a file that it has uploaded."""


class Outbox:
    """Local folder whose files are uploaded to a folder at a URL.

    The versions of the uploaded files are recorded, so that files of others are not overwritten.

    Args:
        url: address of the folder.

    Attributes:
        folder: local folder.

    Raises:
        UserError: the protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.location = Location(url)
        self.location.require_writable()
        self.folder = local_folder(url, "results")
        self._known, self._read = read_versions_from(self.folder, 0)

    def path(self, local: Path) -> str:
        """Return the path at the URL of a file in the local folder."""
        return f"{self.location.path.rstrip('/')}/{local.relative_to(self.folder).as_posix()}"

    def check(self, files: Sequence[Path], *, overwrite: bool) -> None:
        """Check that no upload overwrites a file that this machine did not upload.

        Raises:
            UserError: files exist at the URL that were changed or not uploaded from here, or the
                URL can't be read.
        """
        if overwrite:
            return

        def conflicts(file: Path) -> bool:
            info = self.location.describe(self.path(file))
            return info is not None and not self._has_uploaded(file, info)

        with ThreadPoolExecutor(threads(self.location)) as pool:
            found = [f for f, c in zip(files, pool.map(conflicts, files), strict=True) if c]
        if found:
            time.sleep(_RECORDED)
            found = [file for file in found if conflicts(file)]
        if not found:
            return
        more = f" and {len(found) - 1} more files" if found[1:] else ""
        raise UserError(
            f"{found[0]}{more} would be overwritten, but this machine did not write it: choose "
            "another output or add overwrite=true to replace it"
        )

    def push(self, files: Sequence[Path]) -> None:
        """Upload each file atomically, unless it is unchanged since its last upload.

        Raises:
            UserError: a file can't be written. Files at the URL are whole.
        """
        for file in files:
            info, modified = self.location.describe(self.path(file)), file.stat().st_mtime_ns
            if info is not None and self._has_uploaded(file, info, modified):
                continue
            self.location.upload(file, self.path(file))
            state = _state(self.location.describe(self.path(file)) or {})
            name = file.relative_to(self.folder).as_posix()
            remember(self.folder, name, state)
            self._known[name] = (state, modified)

    def _has_uploaded(self, file: Path, info: Info, modified: int | None = None) -> bool:
        """Return whether a process of this machine uploaded the file that is at the URL.

        ``modified`` is the modification time of the local file when it was uploaded, if it matters.
        """
        name, state = file.relative_to(self.folder).as_posix(), _state(info)

        def is_known() -> bool:
            known, then = self._known.get(name, ("", 0))
            return known == state and modified in (None, then)

        if not is_known():  # perhaps, another process recorded it
            added, self._read = read_versions_from(self.folder, self._read)
            self._known |= added
        return is_known()


def _state(info: Info) -> str:
    return version(info) or f"{info.get('size')} bytes"


@contextmanager
def uploaded(place: str, *, overwrite: bool, is_folder: bool = False) -> Iterator[Path]:
    """Yield a local path to write; upload its files at the end of the block if ``place`` is a URL.

    An error in the block uploads nothing. If the upload fails, the local files are kept.

    Args:
        place: local path, or URL, of the file or folder.
        overwrite: whether to replace a file that exists.
        is_folder: whether ``place`` is a folder, whose existing files are replaced.

    Raises:
        UserError: the file exists and ``overwrite`` is not set, or it can't be written.
    """
    path = local_path(place)
    if path is not None or not is_url(place):
        yield Path(place if path is None else path)
        return
    location = Location(place)
    location.require_writable()
    if not (is_folder or overwrite) and location.describe(location.path) is not None:
        raise UserError(
            f"{location.name} already exists: choose another output or add overwrite=true"
        )
    path, results = location.path.rstrip("/"), cache_folder() / "results"
    with write_errors(results, "into"):
        results.mkdir(parents=True, exist_ok=True)
    with staging(results) as folder:
        local = folder / path.rpartition("/")[2]
        name_in_messages(local, location.name)
        try:
            yield local
        except UserError as error:
            raise UserError(readable(str(error))) from error
        files = sorted(p for p in local.rglob("*") if p.is_file()) if is_folder else [local]
        try:
            for file in files:
                name = file.relative_to(local).as_posix()
                location.upload(file, f"{path}/{name}" if is_folder else path)
        except UserError as error:
            kept = Path(tempfile.mkdtemp(dir=results))
            local.rename(kept / local.name)
            raise UserError(f"{error}; the results are in {kept}") from error
