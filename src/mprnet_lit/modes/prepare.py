"""``mode=prepare``: decode a data set once into a store that gives crops without decoding."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from mprnet_lit.config import instantiate
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.data.images import read_image
from mprnet_lit.data.sources import Sample
from mprnet_lit.data.store import (
    PROGRESS,
    SPLITS,
    SUFFIX,
    Split,
    Stored,
    done_before,
    file_of,
    read_index,
    store,
    stored_in,
    write_index,
)
from mprnet_lit.errors import UserError
from mprnet_lit.tracking.terminal import say


def run(config: DictConfig) -> None:
    """Make or go on with the store ``output``, or with ``verify`` check it.

    Raises:
        UserError: the data can't be used, the disk is too small, or the store is damaged.
    """
    console, folder = Console(), Path(str(config.output))
    if config.verify:
        _verify(folder, console)
        return
    data: RestorationDataModule = instantiate(config.data)
    data.setup()
    samples: dict[Split, list[Sample]] = {"train": data.train_samples, "val": data.val_samples}
    todo = {
        file_of(split, path): path
        for split in SPLITS
        for sample in samples[split]
        for path in (sample.target, sample.degraded)
        if path is not None
    }
    if any(path.suffix == SUFFIX for path in todo.values()):
        raise UserError("data=prepared is prepared already: choose the data that it was made of")
    done = done_before(folder)
    done = {file: stored for file, stored in done.items() if file in todo}
    if done:
        say(console, f"{len(done)} of {len(todo)} images done before")
    _check_room(folder, samples, done)
    failures = _store_all({f: p for f, p in todo.items() if f not in done}, folder, done, console)
    if failures:
        lines = "".join(f"\n  {failure}" for failure in failures)
        raise UserError(f"{len(failures)} images could not be prepared:{lines}")
    write_index(folder, samples, done)
    size = sum(stored.size for stored in done.values()) / 1e9
    say(
        console,
        f"{len(samples['train'])} training and {len(samples['val'])} validation samples in "
        f"{folder} ({size:.2f} GB): train with data=prepared data.train.folder={folder}",
    )


def _check_room(folder: Path, samples: dict[Split, list[Sample]], done: dict[str, Stored]) -> None:
    """Refuse before the work what the disk can't hold, reckoned with 8 bits."""
    needed = sum(
        sample.height * sample.width * 3
        for split in SPLITS
        for sample in samples[split]
        for path in (sample.target, sample.degraded)
        if path is not None and file_of(split, path) not in done
    )
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder} needs {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB free: "
            "choose another output or make room"
        )


def _store_all(
    todo: dict[str, Path], folder: Path, done: dict[str, Stored], console: Console
) -> list[str]:
    """Store images by several threads, noting each that is done; returns what can't be read.

    Raises:
        UserError: the store can't be written; what is done stays noted.
    """
    failures: list[str] = []
    stop = threading.Event()

    def one(source: Path, file: str) -> Stored | str | None:
        if stop.is_set():
            return None
        try:
            pixels = read_image(source)
        except UserError as error:
            return str(error)
        return store(pixels, source, file, folder)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("preparing", total=len(todo))
        futures = [pool.submit(one, source, file) for file, source in todo.items()]
        try:
            for future in as_completed(futures):
                outcome = future.result()
                if isinstance(outcome, Stored):
                    done[outcome.file] = outcome
                    _note(outcome, folder)
                elif outcome is not None:
                    failures.append(outcome)
                bar.advance(task)
        finally:
            stop.set()  # of what has not begun yet, if this was interrupted
    return sorted(failures)


def _note(stored: Stored, folder: Path) -> None:
    try:
        with (folder / PROGRESS).open("a") as notes:
            notes.write(json.dumps(asdict(stored)) + "\n")
    except OSError as error:
        raise UserError(
            f"can't write {folder / PROGRESS}: {error.strerror or error}; make room there"
        ) from error


def _verify(folder: Path, console: Console) -> None:
    stored = list(stored_in(read_index(folder)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        whole = list(pool.map(lambda s: s.is_whole(folder), stored))
    damaged = [s for s, good in zip(stored, whole, strict=True) if not good]
    if damaged:
        lines = "".join(f"\n  {folder / s.file} (of {s.source})" for s in damaged)
        raise UserError(
            f"{len(damaged)} of {len(stored)} files are damaged; delete them and run mode=prepare "
            f"again, which makes what is missing:{lines}"
        )
    changed = [s for s in stored if not s.is_current(folder)]
    for each in changed:
        say(console, f"changed since: {each.source}; mode=prepare takes it anew")
    say(console, f"all {len(stored)} files of {folder} are whole")
