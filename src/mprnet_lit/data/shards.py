"""Source of the samples in shards, and a list of the shards of a split."""

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.shard_index import INDEX, Shard, checksum, parse, read
from mprnet_lit.data.shard_reader import load_webdataset, opened, place_of, resolved
from mprnet_lit.data.store import SPLITS, Split
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.mirror import threads
from mprnet_lit.utils.remote import Location
from mprnet_lit.utils.url import is_url

_SHOWN = 5
"""Maximum number of shards in a message."""


@dataclass(frozen=True)
class ShardList:
    """Shards of a split, and the place of their files.

    Attributes:
        folder: folder of the shards or its URL.
        shards: shards of the split without the skipped ones.
        numbered: number of samples of the data set, with those of skipped shards.
    """

    folder: str
    shards: tuple[Shard, ...]
    numbered: int

    def __len__(self) -> int:
        """Return the number of samples."""
        return sum(shard.samples for shard in self.shards)

    @property
    def has_pairs(self) -> bool:
        """Whether a sample has a degraded image."""
        return any(shard.pairs for shard in self.shards)

    def digest(self, *options: object) -> str:
        """Return a digest of the content of the shards, and of further values."""
        found = [shard.sha256 for shard in self.shards]
        return hashlib.sha256(repr((found, *options)).encode()).hexdigest()


@dataclass(frozen=True)
class Shards:
    """Split of a folder of shards, which ``mode=prepare prepare.format=webdataset`` writes.

    Args:
        folder: folder of the shards or its URL.
        split: ``train`` or ``val``.
    """

    folder: str | Path
    split: Split

    def samples(self, on_error: OnError) -> NoReturn:
        """Raise UserError, because shards are read in their own order, by ``ShardDataModule``."""
        raise UserError("shards need the class ShardDataModule: use data=webdataset")

    def shards(self, on_error: OnError = "raise", *, verify: bool = False) -> ShardList:
        """Return the shards of the split.

        Args:
            on_error: ``raise`` to report missing and damaged shards in one error, or ``skip`` to
                skip them with a warning.
            verify: whether to read all shards, to compare their checksums.

        Raises:
            UserError: ``folder`` has no complete index, ``split`` is not ``train`` or ``val``, or
                (with ``on_error="raise"``) a shard is missing or damaged.
        """
        require("folder", self.folder, (str, Path), "the path of a folder or a URL")
        if self.split not in SPLITS:
            raise UserError(f"split={self.split} must be train or val")
        load_webdataset()
        folder = resolved(str(self.folder))
        listed = self._index(folder)
        sizes = file_sizes(folder, listed)
        faulty = [s for s in listed if not is_good(folder, s, sizes, verify=verify)]
        if faulty:
            names = ", ".join(place_of(folder, shard.file) for shard in faulty[:_SHOWN])
            more = f" and {len(faulty) - _SHOWN} more" if len(faulty) > _SHOWN else ""
            problem = f"{len(faulty)} of {len(listed)} shards are missing or damaged"
            if on_error == "raise":
                raise UserError(
                    f"{problem}: restore or prepare them again, or set on_error=skip to skip them: "
                    f"{names}{more}"
                )
            print(f"Warning: {problem}, and skipped: {names}{more}", file=sys.stderr, flush=True)
        good = tuple(shard for shard in listed if shard not in faulty)
        if not good:
            raise UserError(f"{place_of(folder, INDEX)} lists no usable shard of {self.split}")
        return ShardList(folder, good, sum(shard.samples for shard in listed))

    def _index(self, folder: str) -> Sequence[Shard]:
        if not is_url(folder):
            return read(Path(folder))[self.split]
        with opened(folder, INDEX) as file:
            return parse(file.read(), place_of(folder, INDEX))[self.split]


def file_sizes(folder: str, shards: Sequence[Shard]) -> dict[str, int | None]:
    """Return the sizes of the existing shards; ``None`` if a web server does not tell the size."""
    if is_url(folder):
        return _sizes_at_url(Location(folder), [shard.file for shard in shards])
    paths = {shard.file: Path(folder) / shard.file for shard in shards}
    return {file: path.stat().st_size for file, path in paths.items() if path.is_file()}


def _sizes_at_url(location: Location, files: Sequence[str]) -> dict[str, int | None]:
    if location.is_web:  # a web server may not list its files
        root = location.path.rstrip("/")
        with ThreadPoolExecutor(threads(location)) as pool:
            infos = list(pool.map(location.describe, [f"{root}/{file}" for file in files]))
        found = {file: info for file, info in zip(files, infos, strict=True) if info is not None}
    else:
        _, found = location.find(lambda name: name.endswith(".tar"))
    return {file: info.get("size") for file, info in found.items()}


def is_good(folder: str, shard: Shard, sizes: dict[str, int | None], *, verify: bool) -> bool:
    """Return whether a shard has its recorded size and, with ``verify``, its checksum."""
    if shard.file not in sizes or sizes[shard.file] not in (None, shard.size):
        return False
    if not verify:
        return True
    with opened(folder, shard.file) as file:
        return checksum(file) == shard.sha256
