"""``mode=prepare prepare.format=webdataset``: write a data set as shards."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from mprnet_lit.cli.prepare_common import check_room, failing, require_none, run_all
from mprnet_lit.data import shard_index
from mprnet_lit.data.progress import append_progress, start_progress
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.shard_index import Shard
from mprnet_lit.data.shard_reader import load_webdataset
from mprnet_lit.data.shard_writer import ImageError, PlannedShard, plan, write_shard
from mprnet_lit.data.shards import file_sizes, is_good
from mprnet_lit.data.store import SPLITS, Split
from mprnet_lit.runs.folder import held
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError

_DEFAULT_MB = 256.0


def prepare(
    folder: Path,
    samples: dict[Split, Sequence[Sample]],
    seed: int,
    shard_mb: float | None,
    console: Console,
) -> None:
    """Create or complete a folder of shards.

    Args:
        folder: folder of the shards.
        samples: samples of each split.
        seed: random seed of the order of the training samples.
        shard_mb: maximum size of a shard in MB; ``None`` for the default.
        console: console of the messages.

    Raises:
        UserError: the disk is too small, an image can't be read, or a file can't be written.
    """
    load_webdataset()
    limit = int((_DEFAULT_MB if shard_mb is None else shard_mb) * 1e6)
    planned = {split: list(plan(samples[split], split, seed, limit)) for split in SPLITS}
    if not folder.exists():
        check_room(folder, _bytes(planned["train"] + planned["val"]))  # before held() creates it
    with held(folder):
        shards = _write_all(folder, samples, planned, console)
        if deleted := shard_index.write(folder, shards, seed):
            print_line(console, f"deleted {deleted} shards that are no longer needed")
    counts = {split: sum(shard.samples for shard in shards[split]) for split in SPLITS}
    size = sum(shard.size for split in SPLITS for shard in shards[split]) / 1e9
    print_line(
        console,
        f"{counts['train']} training and {counts['val']} validation samples in "
        f"{len(shards['train'])} and {len(shards['val'])} shards in {folder} ({size:.2f} GB): "
        f"train with data=webdataset data.train.folder={folder}",
    )


def _write_all(
    folder: Path,
    samples: dict[Split, Sequence[Sample]],
    planned: dict[Split, list[PlannedShard]],
    console: Console,
) -> dict[Split, list[Shard]]:
    """Write the missing and changed shards; return the records of all shards."""
    sources = {shard.file: shard.sources for split in SPLITS for shard in planned[split]}
    found = shard_index.complete_shards(folder)
    done = {file: s for file, s in found.items() if sources.get(file) == s.sources}
    todo = {
        split: [shard for shard in planned[split] if shard.file not in done] for split in SPLITS
    }
    missing = todo["train"] + todo["val"]
    progress = folder / shard_index.PROGRESS
    if done:
        print_line(console, f"{len(done)} of {len(sources)} shards are already prepared")
    if missing:
        check_room(folder, _bytes(missing))
        start_progress(progress, done.values(), folder / shard_index.INDEX)

    def record(shard: Shard) -> None:
        done[shard.file] = shard
        append_progress(shard, progress)

    tasks = [_task(folder, shard, samples[split]) for split in SPLITS for shard in todo[split]]
    require_none(run_all(tasks, record, console), "shards")
    return {split: [done[shard.file] for shard in planned[split]] for split in SPLITS}


def _task(
    folder: Path, planned: PlannedShard, samples: Sequence[Sample]
) -> Callable[[], Shard | str]:
    """Return a function that writes a shard, or returns a message if an image can't be read."""

    def task() -> Shard | str:
        try:
            return write_shard(folder, planned, samples)
        except ImageError as error:
            return str(error)

    return task


def _bytes(planned: Sequence[PlannedShard]) -> int:
    return sum(shard.size for shard in planned)


def verify(folder: Path, console: Console) -> None:
    """Check the checksums of shards."""
    index = shard_index.read(folder)
    shards = [shard for split in SPLITS for shard in index[split]]
    sizes = file_sizes(str(folder), shards)
    if damaged := failing(lambda shard: is_good(str(folder), shard, sizes, verify=True), shards):
        lines = "".join(f"\n  {folder / shard.file}" for shard in damaged)
        raise UserError(
            f"{len(damaged)} of {len(shards)} shards are damaged; delete them and run mode=prepare "
            f"prepare.format=webdataset again, which writes the missing shards:{lines}"
        )
    print_line(console, f"all {len(shards)} shards of {folder} are intact")
