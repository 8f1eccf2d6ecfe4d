"""Download of weights files, with a progress bar, a cache and a checksum."""

import hashlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from filelock import FileLock

from mprnet_lit.utils import mirror
from mprnet_lit.utils.atomic import is_disk_error, write_errors
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.utils.file_state import sha256
from mprnet_lit.utils.url import shown
from mprnet_lit.weights.address import HUB_FILE, SCHEMES, HubAddress, WebAddress, parse_address

OFFLINE = "HF_HUB_OFFLINE"
"""Environment variable that disables all downloads, as in huggingface_hub."""
_TIMEOUT = 30.0
"""Seconds without an answer or data after which a download from a web server fails."""
_REMEDY = "check the network, or download the file on another machine and pass its path"


def fetch(address: str) -> Path:
    """Return the local copy of a weights file, which is downloaded if it is not in the cache.

    Other URLs than those of :func:`parse_address`, such as ``s3://``, are read through fsspec; see
    :func:`mprnet_lit.utils.mirror.fetch`.

    Files of the Hugging Face Hub are in the cache of huggingface_hub (``HF_HOME``), and a new
    version is downloaded if the network is available. Other files are in the cache of
    ``torch.hub`` (``TORCH_HOME``), by address, and are downloaded once. A file that is incomplete
    or has another checksum is never used.

    Args:
        address: address of the file, as in :func:`parse_address`.

    Raises:
        UserError: the address is not valid; the file does not exist, is a folder or an exported
            network, is not accessible, is not in the cache without a network, is incomplete, or has
            another checksum; a package is not installed.
    """
    parsed = parse_address(address) if address.startswith(SCHEMES) else None
    if (address if parsed is None else parsed.file).endswith(".onnx"):
        raise UserError(
            f"{parsed or shown(address)} is an exported network, which is not downloaded, because "
            "its reader is not safe for files of unknown origin: download it yourself and pass its "
            "path"
        )
    if parsed is not None:
        path = _from_hub(parsed) if isinstance(parsed, HubAddress) else _from_web(parsed)
        mirror.name_in_messages(path, str(parsed))
        return path
    copy = mirror.fetch(address)
    if copy.is_dir() and not (copy / HUB_FILE).is_file():
        raise UserError(f"{shown(address)} is a folder: add the name of a weights file")
    return copy


def discard(path: Path) -> None:
    """Remove the copy of a faulty file of a web server, so that the next call downloads it again.

    Other caches download a file again if it changed.
    """
    if path.is_relative_to(_web_cache()):
        with suppress(OSError):
            path.unlink()


def _web_cache() -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", "mprnet_lit")


def _check(path: Path, address: HubAddress | WebAddress) -> None:
    """Raise UserError if a downloaded file has another checksum than expected."""
    if address.sha256 is not None and (found := sha256(path)) != address.sha256:
        raise UserError(
            f"{address} has the checksum sha256={found}, not {address.sha256}: the file was "
            "replaced or the checksum is that of another file"
        )


def _is_offline() -> bool:
    return os.environ.get(OFFLINE, "").upper() in ("1", "ON", "YES", "TRUE")


def _from_hub(address: HubAddress) -> Path:
    """Return the local copy of a file of the Hugging Face Hub."""
    try:
        from huggingface_hub import constants, errors, hf_hub_download
    except ImportError as error:
        raise UserError(
            f"{address} needs the package huggingface_hub: {install_hint('hub')}"
        ) from error
    offline = _is_offline()
    try:
        with _few_messages(), _cache_errors(Path(constants.HF_HUB_CACHE), "HF_HOME"):
            found = hf_hub_download(
                address.repo, address.file, revision=address.revision, local_files_only=offline
            )
    except errors.GatedRepoError as error:
        raise UserError(
            f"the owner of hf://{address.repo} asks for the acceptance of conditions: accept them "
            "on the page of the repository, and set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"the repository hf://{address.repo} does not exist or is private: check the name, or "
            "set HF_TOKEN to a token that can read it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"the repository hf://{address.repo} has no revision {address.revision}: check the "
            "address, hf://OWNER/REPO[/FILE][@REVISION]"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise UserError(
            f"the repository hf://{address.repo} has no file {address.file}: add its name, "
            "hf://OWNER/REPO/FILE"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        why = f"the Hugging Face Hub can't be reached ({reason_of(error.__cause__ or error)})"
        why = f"{OFFLINE} is set" if offline else why
        raise UserError(f"{why}, and {address} is not in the cache: {_REMEDY}") from error
    except UserError:
        raise
    except Exception as error:  # of the HTTP client, whose name depends on the version
        raise _failure(address, error) from error
    _check(Path(found), address)
    return Path(found)


def _from_web(address: WebAddress) -> Path:
    """Return the local copy of a file of a web server."""
    key = hashlib.sha256(address.url.encode()).hexdigest()[:16]
    folder = _web_cache() / key
    path, partial = folder / address.file, folder / ".partial"
    if _is_whole(path, address):
        return path  # also from a cache that is not writable
    if _is_offline():
        raise UserError(f"{OFFLINE} is set, and {address} is not in the cache: {_REMEDY}")
    with _cache_errors(_web_cache(), "TORCH_HOME"):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # the processes of a training download a file once
            if not _is_whole(path, address):
                try:
                    _download(address, partial)
                    _check(partial, address)
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
    return path


def _is_whole(path: Path, address: WebAddress) -> bool:
    """Return whether a file is in the cache and has the expected checksum, if one is given."""
    return path.is_file() and address.sha256 in (None, sha256(path))


@contextmanager
def _cache_errors(folder: Path, variable: str) -> Iterator[None]:
    """Convert the errors of the disk of a cache, which ``variable`` moves, to a UserError."""
    advice = f"free disk space or set {variable} to a writable folder"
    with write_errors(folder, "into", advice, mixed=True):
        yield


def _download(address: WebAddress, path: Path) -> None:
    """Download a file, and check its size and that it is not a web page.

    Raises:
        OSError: the disk is full.
        UserError: the address can't be downloaded.
    """
    try:
        with _timeout(_TIMEOUT):
            size = _size(address)
            torch.hub.download_url_to_file(address.url, str(path), progress=sys.stderr.isatty())
    except HTTPError as error:
        what = "does not exist" if error.code in (404, 410) else "can't be downloaded"
        raise UserError(
            f"{address} {what} (HTTP {error.code} {error.reason}): check the address, or download "
            "the file in a browser and pass its path"
        ) from error
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and is_disk_error(error, path.parent):
            raise
        raise _failure(address, error) from error
    if size is not None and path.stat().st_size != size:
        raise UserError(
            f"the download of {address} ended after {path.stat().st_size} of {size} bytes: run the "
            "command again"
        )


def _size(address: WebAddress) -> int | None:
    """Request one byte, check the answer, and return the size of the file; ``None`` if unknown.

    ``torch.hub`` does not check the type and the size of its answer.
    """
    headers = {"User-Agent": "torch.hub", "Range": "bytes=0-0"}
    with urlopen(Request(address.url, headers=headers)) as answer:
        secure = address.sha256 is not None or not address.url.startswith("https://")
        if not secure and not answer.url.startswith("https://"):
            raise UserError(
                f"{address} redirects to an address without encryption: add #sha256= and the "
                "checksum of the file"
            )
        if answer.headers.get_content_type() == "text/html":
            raise UserError(
                f"{address} is a web page, not a file: download the file in a browser and pass its "
                "path"
            )
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            length = answer.headers.get("Content-Range", "").rpartition("/")[2]
        else:  # the server ignores ranges
            length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None


def _failure(address: HubAddress | WebAddress, error: Exception) -> UserError:
    return UserError(f"can't download {address} ({reason_of(error)}): {_REMEDY}")


def reason_of(error: BaseException) -> str:
    """Return the message of an error in one line, or the name of its type."""
    cause = error.reason if isinstance(error, URLError) else error
    return " ".join(str(cause).split())[:200].rstrip(".") or type(error).__name__


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Set the timeout of new connections, for which ``torch.hub`` has no argument."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _few_messages() -> Iterator[None]:
    """Hide the messages of each request, and print those of huggingface_hub once."""
    client, hub = logging.getLogger("httpx2"), logging.getLogger("huggingface_hub")
    before = client.level, hub.propagate
    client.setLevel(logging.WARNING)
    hub.propagate = False  # it has its own handler
    try:
        yield
    finally:
        client.setLevel(before[0])
        hub.propagate = before[1]
