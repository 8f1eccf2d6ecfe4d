"""``mode=prepare``: write a data set once as a store of decoded images or as shards."""

import functools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.cli import prepare_shards
from mprnet_lit.cli.common import place
from mprnet_lit.cli.prepare_common import check_room, failing, require_none, run_all
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.data import RestorationDataModule, ShardDataModule, shard_index, store
from mprnet_lit.data.progress import append_progress, start_progress
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.store import (
    INDEX,
    PROGRESS,
    SPLITS,
    SUFFIX,
    Entry,
    Split,
    StoredImage,
    completed_images,
    file_name,
    read_index,
    store_image,
    stored_images,
    write_index,
)
from mprnet_lit.images.reading import read_image
from mprnet_lit.runs.folder import held
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import printable
from mprnet_lit.utils.url import refuse_url


class Source(NamedTuple):
    """Image to store, with its size when it was listed."""

    path: Path
    height: int
    width: int


def run(config: DictConfig) -> None:
    """Create or complete the folder ``output``; with ``prepare.verify``, check it instead."""
    console, folder = Console(), Path(place(config, "output"))
    refuse_url("output", place(config, "output"), "copy the folder to the URL later")
    as_shards = config.prepare.format == "webdataset"
    if config.prepare.verify:
        if as_shards or _contains(folder, shard_index):
            prepare_shards.verify(folder, console)
        else:
            _verify(folder, console)
        return
    if config.prepare.shard_mb is not None and not as_shards:
        raise UserError(
            f"prepare.shard_mb={config.prepare.shard_mb} has no effect on a store: add "
            "prepare.format=webdataset, or remove it"
        )
    if _contains(folder, store if as_shards else shard_index):
        other = "a store" if as_shards else "shards"
        raise UserError(f"{folder} contains {other}: choose another output")
    samples = _listed(config)
    if as_shards:
        prepare_shards.prepare(folder, samples, config.seed, config.prepare.shard_mb, console)
    else:
        _prepare(folder, samples, console)


def _contains(folder: Path, kind: ModuleType) -> bool:
    """Return whether a folder is a complete or incomplete store or folder of shards."""
    return any((folder / name).exists() for name in (kind.INDEX, kind.PROGRESS))


def _listed(config: DictConfig) -> dict[Split, Sequence[Sample]]:
    """Return the training and validation samples of the configuration."""
    # mode=prepare has no recipe for these sizes, and the result does not depend on them.
    patches = {"patch_size": 8, "batch_size": 1, "val_crop_size": None, "verify": True}
    data: RestorationDataModule = instantiate(config.data, **patches)
    listed = isinstance(data, ShardDataModule)
    if not listed:
        data.setup()
        listed = any(sample.target.suffix == SUFFIX for sample in data.train_samples)
    if listed:
        raise UserError("this data set is already prepared: choose the original data set")
    return {"train": data.train_samples, "val": data.val_samples}


def _prepare(folder: Path, samples: dict[Split, Sequence[Sample]], console: Console) -> None:
    """Create or complete a store."""
    images = {
        file_name(split, path): Source(path, sample.height, sample.width)
        for split in SPLITS
        for sample in samples[split]
        for path in (sample.target, sample.degraded)
        if path is not None
    }
    if not folder.exists():
        check_room(folder, _decoded_bytes(images))  # before held() creates the folder
    with held(folder):
        done = _store(folder, samples, images, console)
    size = sum(stored.size for stored in done.values()) / 1e9
    print_line(
        console,
        f"{len(samples['train'])} training and {len(samples['val'])} validation samples in "
        f"{folder} ({size:.2f} GB): train with data=prepared data.train.folder={folder}",
    )


def _store(
    folder: Path,
    samples: dict[Split, Sequence[Sample]],
    images: dict[str, Source],
    console: Console,
) -> dict[str, StoredImage]:
    """Create or complete a store that the caller has locked; return its files."""
    done = {file: s for file, s in completed_images(folder).items() if file in images}
    todo = {file: image for file, image in images.items() if file not in done}
    if done:
        print_line(console, f"{len(done)} of {len(images)} images are already prepared")
    if todo:
        check_room(folder, _decoded_bytes(todo))
        start_progress(folder / PROGRESS, done.values(), folder / INDEX)

    def record(stored: StoredImage) -> None:
        done[stored.file] = stored
        append_progress(stored, folder / PROGRESS)

    tasks = [functools.partial(_store_one, image, file, folder) for file, image in todo.items()]
    require_none(run_all(tasks, record, console), "images")

    def entry(split: Split, sample: Sample) -> Entry:
        target = done[file_name(split, sample.target)]
        degraded = None if sample.degraded is None else done[file_name(split, sample.degraded)]
        return Entry(sample.name, sample.height, sample.width, target, degraded)

    index = {split: [entry(split, s) for s in samples[split]] for split in SPLITS}
    if deleted := write_index(folder, index):
        print_line(console, f"deleted {deleted} images that are no longer in the data set")
    return done


def _decoded_bytes(images: dict[str, Source]) -> int:
    """Return the size of the decoded images in bytes, assuming 8-bit images."""
    return sum(image.height * image.width * 3 for image in images.values())


def _store_one(image: Source, file: str, folder: Path) -> StoredImage | str:
    """Store an image; return its record, or a message if the image can't be read."""
    try:
        status = image.path.stat()
        pixels = read_image(image.path)
    except OSError as error:
        return f"{image.path} can't be read ({error.strerror})"
    except UserError as error:
        return str(error)
    if pixels.shape[:2] != (image.height, image.width):
        return f"{image.path} has changed since it was listed: run mode=prepare again"
    return store_image(pixels, image.path, status, file, folder)


def _verify(folder: Path, console: Console) -> None:
    """Check the checksums of a store, and print the source images that changed."""
    stored = list(stored_images(read_index(folder)))
    damaged = failing(lambda image: image.is_intact(folder), stored)
    if damaged:
        lines = "".join(f"\n  {folder / s.file} (of {printable(s.source)})" for s in damaged)
        raise UserError(
            f"{len(damaged)} of {len(stored)} files are damaged; delete them and run mode=prepare "
            f"again, which writes the missing files:{lines}"
        )
    for image in stored:
        if not image.is_current(folder):
            print_line(
                console, f"{image.source} has changed: run mode=prepare again to update the store"
            )
    print_line(console, f"all {len(stored)} files of {folder} are intact")
