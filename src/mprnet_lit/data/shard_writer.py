"""Writing of shards: the distribution of the samples over shards, and the tar files."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mprnet_lit.data.samples import Sample
from mprnet_lit.data.shard_index import Shard, checksum, shard_name
from mprnet_lit.data.shard_reader import as_file, load_webdataset
from mprnet_lit.data.store import Split
from mprnet_lit.images.reading import read_image
from mprnet_lit.utils.atomic import atomic_writer, write_errors
from mprnet_lit.utils.errors import UserError

_BLOCK, _UNIT = 512, 10_240
"""Bytes of a block of a tar file, and of the unit of its size. A header takes one block."""
_RECORD = 64
"""Maximum bytes of the record of a sample without its name."""


class ImageError(UserError):
    """An image can't be read, or has changed since it was listed."""


@dataclass(frozen=True)
class PlannedShard:
    """Shard before it is written.

    Attributes:
        file: path relative to the folder of the shards.
        numbers: indices of its samples in the data set.
        size: estimated size in bytes.
        sources: digest of the names, sizes and modification times of the source images.
    """

    file: str
    numbers: tuple[int, ...]
    size: int
    sources: str


def plan(samples: Sequence[Sample], split: Split, seed: int, limit: int) -> Iterator[PlannedShard]:
    """Distribute samples over shards, in random order for the training split.

    Args:
        samples: samples of the split.
        split: split.
        seed: random seed of the order.
        limit: maximum size of a shard in bytes. A larger sample has a shard of its own.
    """
    shuffled = np.random.default_rng(seed).permutation(len(samples))
    order = shuffled if split == "train" else np.arange(len(samples))
    numbers: list[int] = []
    count, size, digest = 0, 0, hashlib.sha256()

    def shard() -> PlannedShard:
        name = shard_name(split, count)
        return PlannedShard(name, tuple(numbers), _tar_bytes(size), digest.hexdigest())

    for number in order.tolist():
        more, state = _described(samples[number])
        if numbers and _tar_bytes(size + more) > limit:
            yield shard()
            count, size, digest = count + 1, 0, hashlib.sha256()
            numbers = []
        numbers.append(number)
        size += more
        digest.update(f"{number} {state}\n".encode())
    if numbers:
        yield shard()


def _described(sample: Sample) -> tuple[int, str]:
    """Return the size of a sample in a shard, and a text that changes with its images."""
    state = json.dumps(sample.name)
    size = _member_bytes(len(state) + _RECORD)
    for path in (sample.target, sample.degraded):
        if path is not None:
            status = path.stat()
            size += _member_bytes(status.st_size)
            state += f" {status.st_size} {status.st_mtime_ns}"
    return size, state


def _member_bytes(size: int) -> int:
    return _BLOCK + -(-size // _BLOCK) * _BLOCK


def _tar_bytes(size: int) -> int:
    """Return the size of a tar file, which ends with two blocks."""
    return -(-(size + 2 * _BLOCK) // _UNIT) * _UNIT


def write_shard(folder: Path, planned: PlannedShard, samples: Sequence[Sample]) -> Shard:
    """Write a shard atomically. The images are copied as they are, after a check of their content.

    The same images give the same file.

    Args:
        folder: folder of the shards.
        planned: shard.
        samples: all samples of the split.

    Raises:
        ImageError: an image can't be read or has changed.
        UserError: the file can't be written, or the library is not installed.
    """
    tar_writer = load_webdataset().TarWriter
    chosen = [samples[number] for number in planned.numbers]
    path = folder / planned.file
    with atomic_writer(path) as file, write_errors(path):
        with tar_writer(file, user="", group="", mtime=0, encoder=False) as tar:
            for number, sample in zip(planned.numbers, chosen, strict=True):
                tar.write({"__key__": f"{number:09d}"} | _members(sample))
        file.seek(0)
        digest = checksum(file)
        size = file.seek(0, os.SEEK_END)
    return Shard(
        file=planned.file,
        size=size,
        sha256=digest,
        samples=len(chosen),
        pairs=sum(sample.degraded is not None for sample in chosen),
        side=max(min(sample.height, sample.width) for sample in chosen),
        pixels=max(sample.height * sample.width for sample in chosen),
        sources=planned.sources,
    )


def _members(sample: Sample) -> dict[str, bytes]:
    """Return the files of a sample by suffix: the images and a record in JSON."""
    members: dict[str, bytes] = {}
    decoded = 0
    for kind, path in (("target", sample.target), ("degraded", sample.degraded)):
        if path is None:
            continue
        try:
            content = path.read_bytes()
            with as_file(content, str(path)) as copy:
                pixels = read_image(copy)
        except OSError as error:
            raise ImageError(f"{path} can't be read ({error.strerror})") from error
        except UserError as error:
            raise ImageError(str(error)) from error
        if pixels.shape[:2] != (sample.height, sample.width):
            raise ImageError(f"{path} has changed since it was listed: run mode=prepare again")
        members[f"{kind}{path.suffix.lower()}"] = content
        decoded += pixels.nbytes
    record = {"name": sample.name, "decoded_bytes": decoded}
    return members | {"json": json.dumps(record, sort_keys=True).encode()}
