"""``mode=prepare``: decode a data set once into a store of uncompressed images."""

import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mprnet_lit.cli.common import place
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.store import (
    SPLITS,
    SUFFIX,
    Entry,
    Split,
    StoredImage,
    append_progress,
    completed_images,
    file_name,
    read_index,
    start_progress,
    store_image,
    stored_images,
    write_index,
)
from mprnet_lit.images.reading import read_image
from mprnet_lit.runs.folder import held
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import cores
from mprnet_lit.utils.text import printable
from mprnet_lit.utils.url import refuse_url


class Source(NamedTuple):
    """Image to store, with its size when it was listed."""

    path: Path
    height: int
    width: int


def run(config: DictConfig) -> None:
    """Create or complete the store ``output``; with ``prepare.verify``, check it instead."""
    console, folder = Console(), Path(place(config, "output"))
    refuse_url("output", place(config, "output"), "a store is mapped into memory; copy it later")
    if config.prepare.verify:
        _verify(folder, console)
        return
    # mode=prepare has no recipe for these sizes, and the store does not depend on them.
    patches = {"patch_size": 8, "batch_size": 1, "val_crop_size": None, "verify": True}
    data: RestorationDataModule = instantiate(config.data, **patches)
    data.setup()
    samples: dict[Split, Sequence[Sample]] = {"train": data.train_samples, "val": data.val_samples}
    images = {
        file_name(split, path): Source(path, sample.height, sample.width)
        for split in SPLITS
        for sample in samples[split]
        for path in (sample.target, sample.degraded)
        if path is not None
    }
    if any(image.path.suffix == SUFFIX for image in images.values()):
        raise UserError("data=prepared is already prepared: choose the original data set")
    if not folder.exists():
        _check_room(folder, images)  # before held() creates the folder
    with held(folder):
        done = _prepare(folder, samples, images, console)
    size = sum(stored.size for stored in done.values()) / 1e9
    print_line(
        console,
        f"{len(samples['train'])} training and {len(samples['val'])} validation samples in "
        f"{folder} ({size:.2f} GB): train with data=prepared data.train.folder={folder}",
    )


def _prepare(
    folder: Path, samples: dict[Split, list[Sample]], images: dict[str, Source], console: Console
) -> dict[str, StoredImage]:
    """Create or complete a store that the caller has locked; return its files."""
    done = {file: s for file, s in completed_images(folder).items() if file in images}
    todo = {file: image for file, image in images.items() if file not in done}
    if done:
        print_line(console, f"{len(done)} of {len(images)} images are already prepared")
    if todo:
        _check_room(folder, todo)
        start_progress(folder, done.values())
    failures = _store_all(todo, folder, done, console)
    if failures:
        lines = "".join(f"\n  {printable(failure)}" for failure in failures)
        raise UserError(f"{len(failures)} images could not be prepared:{lines}")

    def entry(split: Split, sample: Sample) -> Entry:
        target = done[file_name(split, sample.target)]
        degraded = None if sample.degraded is None else done[file_name(split, sample.degraded)]
        return Entry(sample.name, sample.height, sample.width, target, degraded)

    index = {split: [entry(split, s) for s in samples[split]] for split in SPLITS}
    if deleted := write_index(folder, index):
        print_line(console, f"deleted {deleted} images that are no longer in the data set")
    return done


def _check_room(folder: Path, todo: dict[str, Source]) -> None:
    """Check the free disk space before decoding, assuming 8-bit images."""
    needed = sum(image.height * image.width * 3 for image in todo.values())
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise UserError(
            f"{folder} needs {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB free: "
            "choose another output or free disk space"
        )


def _store_all(
    todo: dict[str, Source], folder: Path, done: dict[str, StoredImage], console: Console
) -> list[str]:
    """Store images in parallel and record each; return one message per image that can't be read.

    Stored images stay recorded in ``done`` and in the store if an error or a signal ends the work.
    """
    failures: list[str] = []
    stop = threading.Event()

    def store(image: Source, file: str) -> StoredImage | str | None:
        if stop.is_set():
            return None
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

    with (
        ThreadPoolExecutor(cores()) as pool,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("preparing", total=len(todo))
        futures = [pool.submit(store, image, file) for file, image in todo.items()]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                if isinstance(outcome, StoredImage):
                    done[outcome.file] = outcome
                    append_progress(outcome, folder)
                elif outcome is not None:
                    failures.append(outcome)
                bar.advance(task)
        finally:
            stop.set()  # after an interruption, skip the images not started yet
    return sorted(failures)


def _verify(folder: Path, console: Console) -> None:
    """Check the checksums of a store, and print the source images that changed."""
    stored = list(stored_images(read_index(folder)))
    with ThreadPoolExecutor(cores()) as pool:
        intact = list(pool.map(lambda s: s.is_intact(folder), stored))
    damaged = [s for s, good in zip(stored, intact, strict=True) if not good]
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
