"""Files at URLs (``s3://``, ``gs://``, ``https://``, ...) through fsspec, with one-sentence errors.

fsspec and its packages are imported when the first URL is opened. They read credentials from their
own settings, such as ``AWS_PROFILE``. Messages contain no credentials.
"""

import logging
import mimetypes
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mprnet_lit.utils.atomic import atomic_writer, write_errors
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.url import ARCHIVES, CLOUD, explained, file_name, not_supported, shown

Info = dict[str, Any]
"""Description of a file by fsspec: its type, its size, and values that depend on the protocol."""

_VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5", "blob_id", "CRC", "Last-Modified", "LastModified"),
    *("last_modified", "updated", "mtime", "modified", "modify", "created"),
)
"""Values that change with the content of a file, the most reliable first."""
_MAX_FILES = 1_000_000


def remove(url: str) -> None:
    """Remove a file at a URL.

    Raises:
        UserError: the file can't be removed.
    """
    location = Location(url)
    with location.errors("remove"):
        location.fs.rm_file(location.path)


def version(info: Info) -> str | None:
    """Return a text that changes with the content of a file; ``None`` if none is known."""
    found = next((f"{key} {info[key]}" for key in _VERSIONS if info.get(key)), None)
    return found and f"{found}, {info.get('size')} bytes"


class Location:
    """File or folder at a URL.

    Args:
        url: address.
        opened: address to open instead of ``url``, such as that of a local copy.

    Raises:
        UserError: the protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str, opened: str | None = None) -> None:
        self.name = shown(url)
        self.protocol = url.partition(":")[0].lower()
        self.is_web = self.protocol in ("http", "https")
        for library in ("aiobotocore", "botocore"):  # which log where they found credentials
            logging.getLogger(library).setLevel(logging.WARNING)
        with self.errors("open"):
            import fsspec

            self.fs, self.path = fsspec.url_to_fs(
                opened or url, **({"skip_instance_cache": True} if opened else {})
            )

    @contextmanager
    def errors(self, verb: str, path: str | None = None) -> Iterator[None]:
        """Convert any error in the block to a UserError without credentials.

        Args:
            verb: what the block does, such as ``read``.
            path: path of a file in this location, by default of the location.
        """
        place = self.name
        if path is not None and path != self.path:
            inner = path.removeprefix(self.path.rstrip("/")).partition("?")[0]
            place = f"{self.name.rstrip('/')}/{inner.lstrip('/')}"
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each protocol has its own errors, which may quote the URL
            raise UserError(explained(error, verb, place, self.protocol)) from None

    def find(self, is_file: Callable[[str], bool]) -> tuple[bool, dict[str, Info]]:
        """List the files of a folder or a glob, or describe one file.

        Args:
            is_file: function that returns whether a name is that of a file. A web server does not
                tell files from folders.

        Returns:
            Whether the location is a single file, and the description of each file by its name
            relative to the location. Hidden and unsafe names (``../x``) are skipped.

        Raises:
            UserError: the location does not exist or can't be read.
        """
        with self.errors("read"):
            single = self._single(is_file)
            if single is not None:
                return True, single
            if self.is_web and "?" in self.path:  # not a wildcard, but the start of a query
                raise UserError(
                    f"{self.name} is a web page: pass the address of a file, or of a folder "
                    "without a query"
                )
            root = self.path.rstrip("/")
            pattern = ""
            if has_magic(root):
                parts = root.split("/")
                count = next(n for n, part in enumerate(parts) if has_magic(part))
                root, pattern = "/".join(parts[:count]), "/".join(parts[count:])
            found = self._web_files(f"{root}/") if self.is_web else self._files(root)
            return False, {
                name: info
                for name, info in found.items()
                if _is_safe(name) and (not pattern or _matches(name.split("/"), pattern.split("/")))
            }

    def describe(self, path: str) -> Info | None:
        """Return the description of a file; ``None`` if the file does not exist."""
        with self.errors("read", path):
            try:
                self.fs.invalidate_cache()
                return dict(self.fs.info(path))
            except FileNotFoundError:
                return None

    def download(self, path: str, target: Path, size: int | None = None) -> None:
        """Download a file atomically.

        Raises:
            UserError: the file can't be read, the transfer is incomplete, or ``target`` can't be
                written.
        """
        with atomic_writer(target) as file, self.errors("read", path):
            with write_errors(Path(file.name), mixed=True):
                self.fs.get_file(path, file.name)
            if size is not None and Path(file.name).stat().st_size != size:
                raise EOFError("incomplete")

    def require_writable(self) -> None:
        """Raise UserError if no file can be written: on web servers and in archives."""
        if self.is_web or self.protocol in ARCHIVES:
            raise UserError(not_supported("write", self.name, self.protocol))

    def upload(self, source: Path, path: str) -> None:
        """Upload a file atomically: readers see the previous file or the whole new file.

        Raises:
            UserError: the file can't be written. The previous file is unchanged.
        """
        self.require_writable()
        with self.errors("write", path):
            if self.protocol in CLOUD:
                self.fs.put_file(str(source), path)
                return
            parent = path.rpartition("/")[0]
            self.fs.makedirs(parent, exist_ok=True)
            hidden = f"{parent}/.mprnet_lit-{secrets.token_hex(8)}.part"
            try:
                self.fs.put_file(str(source), hidden)
                self.fs.mv(hidden, path)
            except BaseException:
                with suppress(Exception):
                    self.fs.rm_file(hidden)
                raise

    def _single(self, is_file: Callable[[str], bool]) -> dict[str, Info] | None:
        """Return the name and the description of a single file; ``None`` for a folder or glob."""
        path = self.path.partition("?")[0] if self.is_web else self.path
        name = file_name(path)
        if self.is_web:
            is_query = path != self.path
            if not is_query and (path.endswith("/") or has_magic(path)):
                return None
            info = dict(self.fs.info(self.path))
            kind = info.get("mimetype", "")
            if kind == "text/html" and not is_file(name):
                return None
            if not is_file(name):  # https://HOST/photo?id=4
                name += mimetypes.guess_extension(kind) or ""
        else:
            if not path.strip("/"):
                return None
            self.fs.invalidate_cache()
            try:
                info = dict(self.fs.info(path))
            except FileNotFoundError:
                if has_magic(path):
                    return None
                raise
            if info["type"] != "file":
                return None
        return {name: info | {"name": self.path}}

    def _files(self, root: str) -> dict[str, Info]:
        found = self.fs.find(root, detail=True)
        return {str(path)[len(root) :].lstrip("/"): dict(info) for path, info in found.items()}

    def _web_files(self, root: str) -> dict[str, Info]:
        """Return the files that the index pages of a web server link to, below ``root``."""
        found: dict[str, Info] = {}
        pending, seen = [root], {root}
        while pending:
            folder = pending.pop()
            for info in self.fs.ls(folder, detail=True):
                link = re.split(r"[?#]", info["name"])[0]  # links that sort the page have a query
                if not link.startswith(folder) or link in seen:
                    continue
                seen.add(link)
                if len(seen) > _MAX_FILES:
                    raise UserError(f"{self.name} links to too many files: choose a subfolder")
                if link.endswith("/"):
                    pending.append(link)
                else:
                    found[unquote(link[len(root) :])] = dict(info) | {"name": link}
        return found


def _is_safe(name: str) -> bool:
    """Return whether a name stays in its folder on every system, and is not hidden."""
    parts = name.split("/")
    return not (set(name) & set("\\\0:")) and all(part and part[0] != "." for part in parts)


def _matches(names: list[str], pattern: list[str]) -> bool:
    """Return whether a path matches a glob, whose ``**`` stands for any number of folders."""
    if not pattern or not names:
        return not names and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(names[1:], pattern) or _matches(names, pattern[1:])
    return fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])
