"""Index of a folder of shards: tar files with many images each, for the ``webdataset`` library.

``shards.json`` lists the shards of both splits. It is written last: a folder without it is
incomplete, and ``shards.jsonl`` lists its complete shards.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mprnet_lit.data.progress import read_progress, refuse_links
from mprnet_lit.data.store import SPLITS, Split
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError

FORMAT = 1
INDEX, PROGRESS = "shards.json", "shards.jsonl"
AGAIN = "run mode=prepare prepare.format=webdataset again"
_NAME = re.compile(r"(train|val)/shard-\d{6}\.tar")


@dataclass(frozen=True)
class Shard:
    """Record of a shard.

    Attributes:
        file: path relative to the folder: ``train/shard-000000.tar``.
        size: size in bytes.
        sha256: checksum of the file.
        samples: number of samples.
        pairs: number of samples with a degraded image.
        side: largest crop size in pixels that fits into at least one of its images.
        pixels: number of pixels of the largest image.
        sources: digest of the names, sizes and modification times of the source images.
    """

    file: str
    size: int
    sha256: str
    samples: int
    pairs: int
    side: int
    pixels: int
    sources: str

    def __post_init__(self) -> None:
        for field in fields(self):
            if type(getattr(self, field.name)) is not field.type:
                raise TypeError(f"{field.name} has a wrong type")
        if not _NAME.fullmatch(self.file) or self.samples < 1:
            raise ValueError(f"{self.file!r} is not a shard")


def checksum(file: Any) -> str:
    """Return the SHA-256 of a file that is open for reading."""
    return hashlib.file_digest(file, "sha256").hexdigest()


Shards = Mapping[Split, list[Shard]]


def shard_name(split: Split, number: int) -> str:
    """Return the path of a shard relative to its folder."""
    return f"{split}/shard-{number:06d}.tar"


def write(folder: Path, shards: Shards, seed: int) -> int:
    """Write the index atomically, delete unlisted shards, and return the number of deletions."""
    records = {split: [asdict(shard) for shard in shards[split]] for split in SPLITS}
    content = json.dumps({"format": FORMAT, "seed": seed} | records, indent=1) + "\n"
    write_atomic(folder / INDEX, content.encode())
    (folder / PROGRESS).unlink(missing_ok=True)
    listed = {shard.file for split in SPLITS for shard in shards[split]}
    names = (f"{split}/{p.name}" for split in SPLITS for p in (folder / split).glob("*.tar"))
    stale = [name for name in names if _NAME.fullmatch(name) and name not in listed]
    for name in stale:
        (folder / name).unlink()
    return len(stale)


def parse(content: bytes, place: str) -> Shards:
    """Parse and check an index.

    Args:
        content: content of the file.
        place: path or address of the file, for messages.

    Raises:
        UserError: the index is damaged or has another format version.
    """
    try:
        index: dict[str, Any] = json.loads(content)
        if index["format"] == FORMAT:
            return {split: [Shard(**record) for record in index[split]] for split in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{place} is damaged: delete it and {AGAIN}") from error
    raise UserError(
        f"{place} has format {index['format']}, but this version reads format {FORMAT}: {AGAIN} "
        "with another output folder"
    )


def read(folder: Path) -> Shards:
    """Read the index of a local folder.

    Raises:
        UserError: the index is missing, damaged, or has another format version.
    """
    path = folder / INDEX
    if path.is_file():
        return parse(path.read_bytes(), str(path))
    state = "is incomplete" if (folder / PROGRESS).exists() else f"has no shards (no {INDEX})"
    raise UserError(
        f"{folder} {state}: run mode=prepare with prepare.format=webdataset and output={folder}"
    )


def complete_shards(folder: Path) -> dict[str, Shard]:
    """Return the shards of a complete or incomplete folder that exist with their recorded size.

    Raises:
        UserError: the index is damaged, or a folder of the shards is a symbolic link (files
            elsewhere would be overwritten and deleted).
    """
    refuse_links(folder / split for split in SPLITS)
    found = read_progress(folder / PROGRESS, Shard)
    if (folder / INDEX).is_file():
        found = [shard for shards in read(folder).values() for shard in shards] + found
    paths = {shard.file: folder / shard.file for shard in found}
    return {
        shard.file: shard
        for shard in found
        if (path := paths[shard.file]).is_file() and path.stat().st_size == shard.size
    }
