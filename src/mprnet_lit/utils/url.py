"""URLs as text, and messages for errors of fsspec and of its packages."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from urllib.request import url2pathname

from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.utils.masking import mask_text

_URL = re.compile(r"[A-Za-z][\w+.-]*[\w+]://|(zip|tar|libarchive|simplecache|filecache)::")
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
ARCHIVES = ("zip", "tar", "libarchive")
CLOUD = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}
"""Protocols of the extra ``cloud``. These object stores replace a file atomically."""


def is_url(place: str | Path) -> bool:
    """Return whether a place is a URL, such as ``s3://BUCKET/FOLDER`` or ``zip::photos.zip``."""
    return _URL.match(str(place)) is not None


def local_path(url: str) -> str | None:
    """Return the path of a ``file://`` URL, percent-encoded or not; ``None`` for another URL."""
    if not url.startswith("file://"):
        return None
    path = url.removeprefix("file://").removeprefix("localhost")
    return path if Path(path).exists() else url2pathname(path)


def shown(url: str) -> str:
    """Return a URL without passwords and without the query of a signed address."""
    return mask_text(_QUERY.sub(r"\1?***", url))


def refuse_url(key: str, place: str | Path, remedy: str) -> None:
    """Raise UserError if a place is a URL, for settings that must be local paths.

    Args:
        key: name of the setting.
        place: value of the setting.
        remedy: completion of the sentence.
    """
    if is_url(place):
        raise UserError(f"{key}={shown(str(place))} must be a local folder: {remedy}")


def file_name(path: str, default: str = "file") -> str:
    """Return the last part of a percent-encoded path, which never leads out of a folder."""
    name = PurePosixPath(unquote(path).replace("\\", "/")).name
    return re.sub(r"[\0:]", "_", name).lstrip(".") or default


def not_supported(verb: str, place: str, protocol: str) -> str:
    """Return the message for an operation that a protocol lacks."""
    return f"can't {verb} {place}: {protocol} does not support it; use s3, gs, abfs or sftp"


def explained(error: Exception, verb: str, place: str, protocol: str) -> str:
    """Return the message for an error of fsspec or of one of its packages."""
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # fsspec reports any error of a web server as a missing file
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    if isinstance(error, ImportError):
        hint = install_hint("cloud") if protocol in CLOUD else str(error)
        return f"{place} needs a package that is not installed: {hint}"
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        return f"{place} has an unknown protocol: use s3, gs, abfs, https, sftp or the like"
    if (
        isinstance(error, FileNotFoundError | NotADirectoryError)
        or status in (404, 410)
        or kinds & {"NoSuchBucket", "NoSuchKey"}
    ):
        if verb == "write":
            return f"can't write {place}: its bucket or folder does not exist: check the address"
        return f"{place} does not exist: check the address"
    if (
        isinstance(error, PermissionError)
        or status in (401, 403)
        or kinds & {"NoCredentialsError", "ClientAuthenticationError", "DefaultCredentialsError"}
    ):
        return f"no permission to {verb} {place}: check the credentials of {protocol}"
    if "NotImplementedError" in kinds:
        return not_supported(verb, place, protocol)
    if kinds & {"EOFError", "ClientPayloadError", "ServerDisconnectedError", "IncompleteRead"}:
        return f"the transfer of {place} was interrupted: repeat the command"
    if isinstance(error, ConnectionError | TimeoutError) or kinds & {
        *("ClientConnectionError", "EndpointConnectionError", "FSTimeoutError", "gaierror"),
        *("ConnectTimeoutError", "ReadTimeoutError", "ServiceRequestError"),
    }:
        return f"can't reach {place}: check the address and the network connection"
    if status is not None:
        return f"can't {verb} {place} (the server answered with status {status}): try again later"
    reason = " ".join(shown(str(error)).split())[:200]
    return f"can't {verb} {place} ({type(error).__name__}: {reason}): check the address"
