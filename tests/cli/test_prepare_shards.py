"""``mode=prepare prepare.format=webdataset``, and training with ``data=webdataset``."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli, ForkedCommand
from tests.utils.test_remote import memory as memory

from mprnet_lit.cli import prepare_shards
from mprnet_lit.data import shard_reader, shard_writer
from mprnet_lit.data.shard_dataset import ShardDataset
from mprnet_lit.runs.folder import held
from mprnet_lit.training.module import RestorationModule

pytest.importorskip("webdataset")

PAIRED = ("data=paired", "data.train.degraded=in", "data.train.target=gt", "data.holdout=0.2")
PREPARE = ("mode=prepare", *PAIRED, "prepare.format=webdataset", "prepare.shard_mb=0.02",
           "output=shards")  # fmt: skip
TRAIN = ("data=webdataset", "data.train.folder=shards", "logger=none", "~callbacks.panels")
IMAGES = 20


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs of photographs of which one fits in a shard."""
    photo = Image.open(PHOTOS / "coffee.png").convert("RGB")
    for k in range(IMAGES):
        part = photo.crop((20 * k, 10 * k, 20 * k + 40, 10 * k + 40))
        for side, image in (("in", part.rotate(180)), ("gt", part)):
            path = tmp_path / side / f"{k:02}.png"
            path.parent.mkdir(exist_ok=True)
            image.save(path)
    return tmp_path


@pytest.fixture
def shards(cli: Cli, pairs: Path) -> Path:
    assert "16 training and 4 validation samples in 16 and 4 shards in shards" in (
        cli(*PREPARE).output
    )
    return pairs / "shards"


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_changed_images_change_their_shards_only(cli: Cli, shards: Path) -> None:
    before = contents(shards)
    assert "20 of 20 shards are already prepared" in cli(*PREPARE).output
    assert contents(shards) == before
    image = Image.open("gt/03.png")
    for side in ("in", "gt"):
        image.rotate(90).save(f"{side}/03.png")
    assert "19 of 20 shards are already prepared" in cli(*PREPARE).output
    after = contents(shards)
    assert len([name for name in after if after[name] != before[name]]) == 2  # with the index
    for side in ("in", "gt"):
        for k in range(10):
            Path(f"{side}/{k:02}.png").unlink()
    assert "deleted 10 shards" in cli(*PREPARE).output
    assert len(list(shards.glob("*/*.tar"))) == 10
    assert (
        "all 10 shards of shards are intact"
        in cli("mode=prepare", "prepare.verify=true", "output=shards").output
    )


def test_killed_preparation_leaves_whole_shards_and_is_completed(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = shard_writer.write_shard

    def write_some(folder: Path, planned: Any, samples: Any) -> Any:
        if len(list(folder.glob("*/*.tar"))) >= 5:
            vars(shard_writer)["_members"] = wait_forever
        return write(folder, planned, samples)

    def wait_forever(_: Any) -> Any:
        Path("blocked").touch()
        signal.pause()

    def before() -> None:
        vars(prepare_shards)["write_shard"] = write_some

    command = ForkedCommand(pairs, *PREPARE, before=before)
    while not (pairs / "blocked").exists():
        assert command.poll() is None, command.printed()
    command.kill()
    command.communicate()
    left = contents(pairs / "shards")
    assert list(pairs.glob("shards/*/.mprnet_lit-*.part")), "a shard was being written"
    assert "shards is incomplete: run mode=prepare" in error_message(cli(*TRAIN, status=1))
    outcome = cli(*PREPARE)
    assert " of 20 shards are already prepared" in outcome.output
    after = contents(pairs / "shards")
    assert not [name for name in after if ".mprnet_lit" in name]
    whole = [name for name in left if name.endswith(".tar")]
    assert len(whole) >= 5 and all(left[name] == after[name] for name in whole)
    Path("shards").rename("resumed")
    cli(*PREPARE)
    assert contents(pairs / "resumed") == contents(pairs / "shards")


def test_damaged_shards_are_found_and_replaced(cli: Cli, shards: Path) -> None:
    path = shards / "train" / "shard-000003.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    message = error_message(cli("mode=prepare", "prepare.verify=true", "output=shards", status=1))
    assert "1 of 20 shards are damaged" in message and path.name in message
    path.unlink()
    assert "19 of 20 shards are already prepared" in cli(*PREPARE).output
    cli("mode=prepare", "prepare.verify=true", "output=shards")
    index = shards / "shards.json"
    good = index.read_bytes()
    index.write_bytes(good[:-9])
    message = error_message(cli(*PREPARE, status=1))
    assert "shards/shards.json is damaged: delete it and run mode=prepare" in message
    index.unlink()
    cli(*PREPARE)
    assert index.read_bytes() == good


def test_preparation_that_can_not_work_is_refused(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(pairs / "shards"):
        assert "another process is using shards" in error_message(cli(*PREPARE, status=1))
    assert not list(pairs.glob("shards/*"))[1:]
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
        message = error_message(cli(*PREPARE[:-1], "output=other", status=1))
    assert "other needs 0.0002 GB, but its disk has 0 GB free" in message
    assert not (pairs / "other").exists()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        message = error_message(cli(*PREPARE, status=1))
    assert message.count("No space left") == 1 and "shards/" in message
    assert not list(pairs.glob("shards/*/*"))
    with monkeypatch.context() as patch:
        broken = Path("in/07.png")
        good = broken.read_bytes()
        patch.setattr(prepare_shards, "check_room", lambda *_: broken.write_bytes(good[:-40]))
        message = error_message(cli(*PREPARE, status=1))
    assert "1 shards could not be prepared" in message and "in/07.png can't be read" in message
    assert not (pairs / "shards" / "shards.json").exists()
    broken.write_bytes(good)
    cli(*PREPARE)
    store = ("mode=prepare", *PAIRED, "output=shards")
    assert "shards contains shards: choose another" in error_message(cli(*store, status=1))
    cli(*store[:-1], "output=store")
    message = error_message(cli(*PREPARE[:-1], "output=store", status=1))
    assert "store contains a store: choose another" in message
    incomplete = {
        "store": ("index.json", "progress.jsonl"),
        "shards": ("shards.json", "shards.jsonl"),
    }
    for folder, (index, progress) in incomplete.items():
        (pairs / folder / index).unlink()
        (pairs / folder / progress).touch()
    message = error_message(cli(*PREPARE[:-1], "output=store", status=1))
    assert "store contains a store: choose another" in message
    assert "shards contains shards: choose another" in error_message(cli(*store, status=1))
    message = error_message(cli(*store, "prepare.shard_mb=9", status=1))
    assert "prepare.shard_mb=9 has no effect on a store" in message
    again = (*PREPARE[2:][3:-1], "mode=prepare", "data=webdataset", "data.train.folder=shards")
    message = error_message(cli(*again, "output=again", status=1))
    assert "this data set is already prepared" in message
    (pairs / "linked").mkdir()
    (pairs / "linked" / "train").symlink_to(pairs)
    message = error_message(cli(*PREPARE[:-1], "output=linked", status=1))
    assert "linked/train is a symbolic link" in message


def logged_names(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Write the names of each batch, and the shards that each process opens, into files."""
    for step in ("training_step", "validation_step"):
        method = getattr(RestorationModule, step)

        def note(self: Any, batch: Any, batch_idx: int, name: str = step, do: Any = method) -> Any:
            with (folder / f"{name}-{self.trainer.global_rank}").open("a") as file:
                weights = batch["weight"].tolist()
                file.write(json.dumps([self.trainer.current_epoch, batch["name"], weights]) + "\n")
            return do(self, batch, batch_idx)

        monkeypatch.setattr(RestorationModule, step, note)
    opened = shard_reader.opened

    def log(place: str, file: str) -> Any:
        with (folder / "opened").open("a") as lines:
            lines.write(f"{os.getpid()} {file}\n")
        return opened(place, file)

    monkeypatch.setattr(shard_reader, "opened", log)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_four_processes_read_disjoint_shards_with_the_same_number_of_batches(
    shell: Cli, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shards.parent
    logged_names(monkeypatch, log)
    outcome = shell(
        *TRAIN, "trainer.devices=4", "data.batch_size=4", "data.num_workers=2",
        "trainer.max_epochs=2", "trainer.num_sanity_val_steps=0", "data.crops_per_image=2",
    )  # fmt: skip
    assert "on 4 x cpu" in outcome.output and "16 training and 4 validation" in outcome.output
    steps = [read(log / f"training_step-{rank}") for rank in range(4)]
    assert [len(s) for s in steps] == [16] * 4
    for epoch in range(2):
        ranks = [Counter(n for e, names, _ in s if e == epoch for n in names) for s in steps]
        assert sum(ranks, Counter()) == Counter({name: 2 for rank in ranks for name in rank})
        assert len({name for rank in ranks for name in rank}) == 16 == sum(map(len, ranks))
    assert [set(s[0][1]) for s in steps] != [set(s[8][1]) for s in steps], "epochs differ"
    for epoch in range(2):
        validated = [
            (name, weight)
            for rank in range(4)
            for e, names, weights in read(log / f"validation_step-{rank}")
            if e == epoch
            for name, weight in zip(names, weights, strict=True)
        ]
        assert len(validated) == len({name for name, _ in validated}) == 4
        assert {weight for _, weight in validated} == {1.0}
    opened = Counter((log / "opened").read_text().splitlines())
    files = Counter(line.split()[1] for line in opened.elements())
    training = {file: n for file, n in files.items() if file.startswith("train/")}
    assert len(training) == 16 and set(training.values()) == {2}, "once per epoch"
    readers = Counter(line.split()[0] for line in opened.elements() if " train/" in line)
    assert len(readers) == 8 and set(readers.values()) == {4}, "two workers per process"


def test_uneven_shards_give_each_process_the_same_number_of_batches(
    cli: Cli, shell: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("in", "gt"):
        for k in range(6):
            (pairs / side / f"{k:02}.png").unlink()
    cli(*PREPARE, "prepare.shard_mb=0.05")  # 11 training samples in shards of several
    logged_names(monkeypatch, pairs)
    outcome = shell(
        *TRAIN, "trainer.devices=4", "data.batch_size=4", "data.num_workers=2",
        "trainer.max_epochs=1", "trainer.num_sanity_val_steps=0", "data.crops_per_image=1",
    )  # fmt: skip
    assert outcome.errors.count("Warning: 1 of 2 data workers per device are used") == 1
    steps = [read(pairs / f"training_step-{rank}") for rank in range(4)]
    assert [len(s) for s in steps] == [3] * 4
    weighted = Counter(
        name
        for s in steps
        for _, names, weights in s
        for name, weight in zip(names, weights, strict=True)
        if weight
    )
    assert len(weighted) == 11 and set(weighted.values()) == {1}


RESUMABLE = (*TRAIN, "data.num_workers=2", "data.crops_per_image=2", "data.batch_size=4",
             "trainer.max_epochs=2", "trainer.limit_val_batches=1", "data.cache_gb=3e-5",
             "schedule.per_step=true")  # fmt: skip


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    training_step = RestorationModule.training_step

    def stop(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == step:
            signal.raise_signal(signal.SIGHUP)
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", stop)


def test_resumed_training_reads_the_remaining_patches_once(
    cli: Cli, shell: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*PREPARE, "prepare.shard_mb=0.05")
    count = len(list(Path("shards").glob("train/*.tar")))
    assert 4 <= count <= 8, "several images in each shard"
    names: dict[str, list[Any]] = {}
    weights: dict[str, Any] = {}
    for run in ("whole", "resumed"):
        folder = pairs / run
        folder.mkdir()
        options = (*RESUMABLE, f"paths.runs={run}")
        with monkeypatch.context() as patch:
            logged_names(patch, folder)
            if run == "resumed":
                with monkeypatch.context() as stopping:
                    stop_at(stopping, 10)  # in the middle of a shard
                    shell(*options, status=128 + signal.SIGHUP)
                assert len(read(folder / "training_step-0")) == 11
                opened = len((folder / "opened").read_text().split("\n"))
                outcome = shell(*options, "resume=auto")
                assert "resuming after step 11" in outcome.output
                assert "another order" not in outcome.errors
                again = (folder / "opened").read_text().split("\n")[opened - 1 :]
                rest = {line.split()[1] for line in again if " train/" in line}
                assert len(rest) < count, "finished shards are not read again"
            else:
                shell(*options)
        names[run] = read(folder / "training_step-0")
        (path,) = folder.glob("**/last.ckpt")
        weights[run] = torch.load(path, weights_only=True)["state_dict"]
    assert names["resumed"] == names["whole"] and len(names["whole"]) == 16
    for name, expected in weights["whole"].items():
        torch.testing.assert_close(weights["resumed"][name], expected, rtol=0, atol=0)


def test_other_number_of_workers_resumes_with_a_warning(
    cli: Cli, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_names(monkeypatch, shards.parent)
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        cli(*RESUMABLE, status=128 + signal.SIGHUP)
    (run,) = Path("runs").glob("*/*")
    outcome = cli(*RESUMABLE, f"resume={run}", "data.num_workers=0", "trainer.max_epochs=3")
    assert outcome.errors.count("The shards are therefore read in another order") == 1
    last = [names for epoch, names, _ in read(shards.parent / "training_step-0") if epoch == 2]
    counts = Counter(name for names in last for name in names)
    assert len(counts) == 16 and set(counts.values()) == {2}, "the next epoch is complete"


def test_killed_data_worker_is_reported(
    cli: Cli, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, parent = ShardDataset.__getitem__, os.getpid()

    def die(self: Any, key: Any) -> Any:
        if self.training and key.epoch and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(self, key)

    monkeypatch.setattr(ShardDataset, "__getitem__", die)
    options = (*RESUMABLE, "data.crops_per_image=1")
    message = error_message(cli(*options, status=1))
    assert "a DataLoader worker died unexpectedly" in message and "resume=auto to resume" in message
    monkeypatch.undo()
    monkeypatch.chdir(shards.parent)
    assert "resuming after step 4" in cli(*options, "resume=auto").output


def test_damaged_shard_ends_the_training_or_is_skipped(cli: Cli, shell: Cli, shards: Path) -> None:
    for path in shards.glob("train/*3.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    train = (*TRAIN, "data.num_workers=1", "data.batch_size=4", "data.crops_per_image=1")
    message = error_message(cli(*train, status=1))
    assert "shards/train/shard-0000" in message and "is damaged" in message
    outcome = cli(*train, "data.on_error=skip", "trainer.max_epochs=1")
    assert outcome.errors.count("Warning: skipped the rest of a shard: shards/train/shard") == 2
    next(shards.glob("train/*1.tar")).unlink()
    message = error_message(shell(*TRAIN, "trainer.devices=2", status=1))
    assert "1 of 16 shards are missing or damaged" in message


def test_training_on_a_url(cli: Cli, shards: Path, memory: Any) -> None:
    memory.put(f"{shards}/", "/bucket/", recursive=True)
    url = ("data=webdataset", "data.train.folder=memory://bucket")
    cli(*url, "logger=none", "trainer.max_steps=2", "~callbacks.panels")
    memory.pipe("/bucket/shards.json", b"{}")
    assert "memory://bucket/shards.json is damaged" in error_message(cli(*url, status=1))
