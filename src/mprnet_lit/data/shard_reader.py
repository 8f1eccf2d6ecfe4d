"""Reading of shards, at local paths and URLs, with the ``webdataset`` library."""

import json
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mprnet_lit.images.reading import Pixels, read_image
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.utils.remote import Location
from mprnet_lit.utils.url import is_url, local_path

_DAMAGE = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, LookupError),
    *(ArithmeticError, AssertionError, RecursionError),
)
"""Errors that ``tarfile`` and ``webdataset`` raise for a damaged file."""


def load_webdataset() -> Any:
    """Import the library.

    Raises:
        UserError: the library is not installed.
    """
    try:
        import webdataset
    except ImportError as error:
        raise UserError(
            f"shards need the package webdataset: {install_hint('webdataset')}"
        ) from error
    return webdataset


@dataclass(frozen=True)
class ShardSample:
    """Sample of a shard, whose images are not decoded yet.

    Attributes:
        place: path or address of the shard and name of the sample, for messages.
        number: index of the sample in the data set.
        name: name of the sample.
        decoded_bytes: size of the decoded images in bytes.
        target: content of the file of the target.
        degraded: content of the file of the degraded image; ``None`` to degrade the target.
    """

    place: str
    number: int
    name: str
    decoded_bytes: int
    target: bytes
    degraded: bytes | None

    @property
    def file_bytes(self) -> int:
        """Size of the files of the images in bytes."""
        return len(self.target) + len(self.degraded or b"")

    def decode(self) -> tuple[Pixels, Pixels | None]:
        """Return the target and the degraded image, each (H, W, 3).

        Raises:
            UserError: an image is damaged.
        """
        images = [
            _decoded(content, f"{self.place} ({self.name}, {kind})")
            for kind, content in (("target", self.target), ("degraded", self.degraded))
            if content is not None
        ]
        target, degraded = images[0], images[1] if len(images) > 1 else None
        if degraded is not None and degraded.shape != target.shape:
            raise UserError(f"{self.place} ({self.name}) is damaged: the images differ in size")
        return target, degraded


def _decoded(content: bytes, place: str) -> Pixels:
    with as_file(content, place) as path:
        return read_image(path)


@contextmanager
def as_file(content: bytes, place: str) -> Iterator[Path]:
    """Yield the path of a temporary file with a content: in memory on Linux, else on the disk.

    ``place`` replaces the path in error messages.
    """
    try:
        if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
            with os.fdopen(os.memfd_create("image"), "wb") as file:
                path = Path(f"/proc/self/fd/{file.fileno()}")
                file.write(content)
                file.flush()
                yield path
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "image"
                path.write_bytes(content)
                yield path
    except UserError as error:
        raise UserError(str(error).replace(str(path), place)) from error


def place_of(folder: str, file: str) -> str:
    """Return the path or the address of a file of a folder, without credentials."""
    return f"{Location(folder).name.rstrip('/')}/{file}" if is_url(folder) else f"{folder}/{file}"


def resolved(folder: str) -> str:
    """Return the local path of a ``file://`` URL, and any other folder unchanged."""
    return local_path(folder) or folder


@contextmanager
def opened(folder: str, file: str) -> Iterator[BinaryIO]:
    """Open a file of a folder or of a URL for reading.

    Raises:
        UserError: the file is missing or can't be read.
    """
    if not is_url(folder):
        path = Path(folder) / file
        try:
            with path.open("rb") as local:
                yield local
        except FileNotFoundError as error:
            raise UserError(
                f"{path} is missing: restore it, or prepare the shards again"
            ) from error
        except OSError as error:
            raise UserError(f"{path} can't be read ({error.strerror or error})") from error
        return
    location = Location(folder)
    path_at_url = f"{location.path.rstrip('/')}/{file}"
    with location.errors("read", path_at_url), location.fs.open(path_at_url, "rb") as remote:
        yield remote


def read_samples(folder: str, file: str, count: int) -> Iterator[ShardSample]:
    """Yield the samples of a shard in their order.

    Args:
        folder: folder of the shards or its URL.
        file: path of the shard relative to the folder.
        count: number of samples that the shard must have.

    Raises:
        UserError: the shard is missing, damaged or can't be read, or the library is missing.
    """
    load_webdataset()
    from webdataset.tariterators import group_by_keys, tar_file_expander

    place = place_of(folder, file)
    found = 0
    with opened(folder, file) as stream:
        files = _damage(tar_file_expander([{"url": place, "stream": stream}]), place)
        for members in _damage(group_by_keys(files), place):
            yield _sample(members, place)
            found += 1
    if found != count:
        raise UserError(_damaged(place, f"it has {found} of {count} samples"))


def _damage(items: Iterator[Any], place: str) -> Iterator[Any]:
    """Yield items; convert the errors of a damaged tar file, not of a file system, to UserError."""
    try:
        yield from items
    except (UserError, OSError):  # an OSError may also be a ValueError: that of a certificate
        raise
    except _DAMAGE as error:
        raise UserError(_damaged(place, type(error).__name__)) from error


def _sample(members: dict[str, Any], place: str) -> ShardSample:
    images = {suffix.partition(".")[0]: content for suffix, content in members.items()}
    try:
        record = json.loads(images["json"])
        return ShardSample(
            place=place,
            number=int(members["__key__"]),
            name=str(record["name"]),
            decoded_bytes=int(record["decoded_bytes"]),
            target=images["target"],
            degraded=images.get("degraded"),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(_damaged(place, f"sample {members['__key__']}")) from error


def _damaged(place: str, reason: str) -> str:
    return (
        f"{place} is damaged ({reason}): restore it, prepare the shards again, or set "
        "on_error=skip to skip it"
    )
