"""Shards: the same patches as from the folders, each once, in an order that can be resumed."""

import http.client
import io
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.conftest import PHOTOS
from tests.full_disk import file_size_limit
from tests.utils.test_remote import memory as memory
from tests.web_server import serve

from mprnet_lit.data import (
    CleanFolder,
    PairedFolders,
    RestorationDataModule,
    ShardDataModule,
    Shards,
    datamodule,
    shard_index,
    shard_reader,
)
from mprnet_lit.data.degradations import GaussianNoise
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.shard_sampling import ShardSampler
from mprnet_lit.data.shard_writer import plan, write_shard
from mprnet_lit.data.shared_memory import Transfer
from mprnet_lit.data.store import SPLITS, Split
from mprnet_lit.utils.errors import RefusedError, UserError

pytest.importorskip("webdataset")

IMAGES = 13
NOISE = GaussianNoise(25)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of photographs in several formats, one with 16 bits."""
    folder = tmp_path_factory.mktemp("photos")
    photo = Image.open(PHOTOS / "coffee.png").convert("RGB")
    for side in ("in", "gt"):
        (folder / side).mkdir()
        for k in range(IMAGES):
            part = photo.crop((20 * k, 10 * k, 20 * k + 72 + k, 10 * k + 64))
            suffix = ("png", "jpg", "webp", "tif")[k % 4]
            part.rotate(0 if side == "gt" else 180).save(folder / side / f"a.{k:02}.{suffix}")
    return folder


def write(
    folder: Path, samples: dict[Split, Sequence[Sample]], limit: int = 40_000, seed: int = 0
) -> None:
    written: dict[Split, list[shard_index.Shard]] = {}
    for split in SPLITS:
        planned = plan(samples[split], split, seed, limit)
        written[split] = [write_shard(folder, shard, samples[split]) for shard in planned]
    shard_index.write(folder, written, seed)


def original(photos: Path, *, paired: bool, **options: Any) -> RestorationDataModule:
    """Return the data module of the folders."""
    train: Any = CleanFolder(photos / "gt")
    if paired:
        train = PairedFolders(photos / "in", photos / "gt")
    data = RestorationDataModule(train, CleanFolder(None), NOISE, **OPTIONS | options)
    data.setup()
    return data


OPTIONS: dict[str, Any] = {
    "patch_size": 32,
    "batch_size": 3,
    "crops_per_image": 2,
    "num_workers": 0,
    "seed": 5,
}


def sharded(folder: Path | str, **options: Any) -> ShardDataModule:
    data = ShardDataModule(
        Shards(folder, "train"), Shards(folder, "val"), NOISE, **OPTIONS | options
    )
    data.setup()
    return data


@pytest.fixture(scope="module", params=[True, False], ids=["paired", "clean"])
def both(
    request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RestorationDataModule, Path]:
    """Data module of the folders, and shards of the same images."""
    data = original(photos, paired=request.param)
    folder = tmp_path_factory.mktemp("shards")
    write(folder, {"train": data.train_samples, "val": data.val_samples})
    assert len(list(folder.glob("train/*.tar"))) > 3
    return data, folder


def items(batches: Any) -> dict[tuple[Any, ...], int]:
    """Count the items of batches by their name and content."""
    found: Counter[tuple[Any, ...]] = Counter()
    for batch in batches:
        for k, name in enumerate(batch["name"]):
            images = (batch[kind][k].numpy().tobytes() for kind in ("degraded", "target"))
            found[name, *images] += 1
    return found


@pytest.mark.parametrize("workers", [0, 3])
def test_patches_equal_those_of_the_folders_bit_for_bit(
    both: tuple[RestorationDataModule, Path], workers: int
) -> None:
    data, folder = both
    ours = sharded(folder, num_workers=workers)
    assert len(ours.train_dataloader()) == len(data.train_dataloader()) == 8
    assert items(ours.train_dataloader()) == items(data.train_dataloader())
    assert items(ours.val_dataloader()) == items(data.val_dataloader())
    assert ours.counts() == data.counts() == (12, 1)


@pytest.mark.parametrize("crops", [1, 2])
def test_small_windows_contain_each_patch_once(
    both: tuple[RestorationDataModule, Path], crops: int
) -> None:
    data, folder = both
    small = list(sharded(folder, cache_gb=1e-5, crops_per_image=crops).train_dataloader())
    large = list(sharded(folder, crops_per_image=crops).train_dataloader())
    assert items(small) == items(large)
    if crops == 2:
        assert items(large) == items(data.train_dataloader())
    assert [b["name"] for b in small] != [b["name"] for b in large], "crops of a window are mixed"


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(1, 5), st.integers(0, 4), st.integers(1, 4), st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_processes_get_the_same_number_of_batches_and_each_item_has_weight_once(
    counts: list[int], world: int, workers: int, batch: int, epoch: int, shuffle: bool
) -> None:
    ranks = [
        list(
            ShardSampler(
                counts, batch, workers, seed=2, shuffle=shuffle, rank=rank, world_size=world,
                position=lambda: (epoch, 0),
            )
        )
        for rank in range(world)
    ]  # fmt: skip
    assert {len(keys) for keys in ranks} == {-(-sum(counts) // world)}
    found = sorted((key.shard, key.place) for keys in ranks for key in keys if key.weight)
    assert found == [(shard, place) for shard, n in enumerate(counts) for place in range(n)]
    readers = [
        [key for first in range(w * batch, len(keys), max(workers, 1) * batch)
         for key in keys[first : first + batch]]
        for keys in ranks
        for w in range(max(workers, 1))
    ]  # fmt: skip
    opened = 0
    for keys in readers:  # each worker reads its shards from start to end
        shards = [
            key.shard for k, key in enumerate(keys) if not k or key.shard != keys[k - 1].shard
        ]
        assert len(shards) == len(set(shards)) or not keys[-1].weight
        opened += len({key.shard for key in keys if key.weight})
    assert opened <= len(counts) + len([keys for keys in readers if keys]) - 1


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 9))
def test_resumed_order_is_the_rest_of_the_order(world: int, workers: int, batches: int) -> None:
    def order(seen: int) -> list[Any]:
        position = (7, seen)
        return list(
            ShardSampler([4, 9, 2, 8], 2, workers, seed=1, shuffle=True, rank=world - 1,
                         world_size=world, position=lambda: position)
        )  # fmt: skip

    assert order(2 * batches) == order(0)[2 * batches :]


def test_whole_shards_are_disjoint_if_their_number_is_a_multiple_of_the_readers() -> None:
    read = Counter(
        shard
        for rank in range(4)
        for shard in {
            (key.shard, key.place // 100, lane)
            for k, key in enumerate(
                ShardSampler([6] * 16, 3, 2, shuffle=True, rank=rank, world_size=4)
            )
            for lane in [k // 3 % 2]
        }
    )
    assert len(read) == 16 and set(read.values()) == {1}


def test_epochs_differ_and_repeat_with_the_seed() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        sampler = ShardSampler([1] * 20, 1, 0, seed=seed, shuffle=True, position=lambda: (epoch, 0))
        return [key.shard for key in sampler]

    assert order(0, 1) == order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)
    assert [key.shard for key in ShardSampler([1] * 20, 1, 0)] == list(range(20))


def test_shards_have_the_files_as_they_are_and_the_same_bytes_each_time(
    photos: Path, tmp_path: Path
) -> None:
    data = original(photos, paired=True)
    samples: dict[Split, Sequence[Sample]] = {"train": data.train_samples, "val": data.val_samples}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, samples, seed=seed)
    files = [sorted(p.name for p in (tmp_path / k / "train").iterdir()) for k in "ab"]
    assert files[0] == files[1] and len(files[0]) > 3
    for file in files[0]:
        path = tmp_path / "a" / "train" / file
        assert path.read_bytes() == (tmp_path / "b" / "train" / file).read_bytes()
        assert path.stat().st_size <= 40_000 or len(read_names(path)) == 1
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None and member.mtime == 0
                number, kind = member.name.split(".")[:2]
                if kind != "json":
                    sample = data.train_samples[int(number)]
                    source = sample.target if kind == "target" else sample.degraded
                    assert source is not None and content.read() == source.read_bytes()
    indexes = [(tmp_path / k / "shards.json").read_bytes() for k in "abc"]
    assert indexes[0] == indexes[1] != indexes[2]


def test_full_disk_is_reported(photos: Path, tmp_path: Path) -> None:
    data = original(photos, paired=True)
    samples: dict[Split, Sequence[Sample]] = {"train": data.train_samples, "val": data.val_samples}
    message = r"can't write .*/train/shard-000000\.tar: File too large; free disk space or choose"
    with pytest.raises(UserError, match=message), file_size_limit(20_000):
        write(tmp_path, samples)
    assert not list(tmp_path.glob("train/*"))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_at_a_url_are_each_opened_once(
    both: tuple[RestorationDataModule, Path],
    memory: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    data, folder = both
    memory.put(f"{folder}/", "/bucket/shards/", recursive=True)
    ours = sharded("memory://bucket/shards", num_workers=workers)
    log = tmp_path / "opened"
    opened = shard_reader.opened

    def logged(folder: str, file: str) -> Any:
        with log.open("a") as lines:
            lines.write(f"{file}\n")
        return opened(folder, file)

    monkeypatch.setattr(shard_reader, "opened", logged)
    assert items(ours.train_dataloader()) == items(data.train_dataloader())
    files = log.read_text().split()
    assert sorted(set(files)) == sorted(shard.file for shard in ours.lists[0].shards)
    assert len(files) <= len(set(files)) + max(workers - 1, 0)
    assert len(items(sharded(f"file://{folder}").val_dataloader())) == 1
    with pytest.raises(UserError, match=r"memory://none/shards\.json does not exist"):
        sharded("memory://none")


def test_shards_on_a_web_server_without_index_pages(
    both: tuple[RestorationDataModule, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = both
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    def refuse(handler: SimpleHTTPRequestHandler, _: Any) -> None:
        handler.send_error(403)

    monkeypatch.setattr(SimpleHTTPRequestHandler, "list_directory", refuse)
    with serve(copy) as url:
        assert items(sharded(url).train_dataloader()) == items(data.train_dataloader())
        (copy / "train" / "shard-000002.tar").unlink()
        with pytest.raises(UserError, match=r"1 of \d+ shards are missing.*/shard-000002\.tar"):
            sharded(url)


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "header":
        content[:512] = b"\xff" * 512
    elif how == "image":
        start = content.index(b"JFIF") if b"JFIF" in content else content.index(b"PNG")
        content[start : start + 60] = bytes(60)
    elif how == "truncated":  # with the recorded size
        content[len(content) // 2 // 512 * 512 :] = bytes(
            len(content) - len(content) // 2 // 512 * 512
        )
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["header", "image", "truncated"])
def test_damaged_shard_is_reported_or_skipped(
    photos: Path, tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    damage(tmp_path / "train" / "shard-000001.tar", how)
    with pytest.raises(UserError, match=r"shard-000001\.tar"):
        list(sharded(tmp_path).train_dataloader())
    skipping = sharded(tmp_path, on_error="skip")
    for _ in range(2):
        batches = list(skipping.train_dataloader())
        assert sum(len(batch["name"]) for batch in batches) == 24
    assert "Warning: skipped the rest of a shard: " in capfd.readouterr().err
    with pytest.raises(UserError, match=r"1 of \d+ shards are missing or damaged: .*000001\.tar"):
        sharded(tmp_path, verify=True)


def test_checksums_are_compared_before_setup_where_processes_wait_without_a_time_limit(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    splits = Shards(tmp_path, "train"), Shards(tmp_path, "val")
    good, bad = (ShardDataModule(*splits, **OPTIONS, verify=True) for _ in range(2))
    good.prepare_data()
    damage(tmp_path / "train" / "shard-000001.tar", "header")
    bad.prepare_data()
    with monkeypatch.context() as patch:
        patch.setattr(Shards, "shards", None)
        good.setup()
        assert good.counts() == (12, 1)
        with pytest.raises(UserError, match=r"1 of \d+ shards are missing or damaged"):
            bad.setup()
    with pytest.raises(UserError, match="missing or damaged"):
        bad.setup()


def test_missing_shard_is_reported_or_skipped(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = original(photos, paired=False)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    path = tmp_path / "train" / "shard-000002.tar"
    lost = len(read_names(path))
    content = path.read_bytes()
    path.write_bytes(content[:-512])
    for _ in range(2):
        with pytest.raises(UserError, match=r"missing or damaged: .*train/shard-000002\.tar"):
            sharded(tmp_path)
        path.unlink(missing_ok=True)
    ours = sharded(tmp_path, on_error="skip")
    assert ours.counts() == (12 - lost, 1)
    assert "skipped" in capfd.readouterr().err
    kept = items(data.train_dataloader()).items() & items(ours.train_dataloader()).items()
    assert len(kept) == 2 * (12 - lost), "the other patches are unchanged"
    for file in tmp_path.glob("val/*.tar"):
        file.unlink()
    with pytest.raises(UserError, match="lists no usable shard of val"):
        sharded(tmp_path, on_error="skip")


def read_names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return [name for name in tar.getnames() if name.endswith(".json")]


def test_unreadable_shards_end_with_one_sentence(photos: Path, tmp_path: Path) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    for path in tmp_path.glob("train/*.tar"):
        damage(path, "header")
    with pytest.raises(UserError, match=r"none of the shards in .* can be read"):
        list(sharded(tmp_path, on_error="skip").train_dataloader())


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"000000001.json": b"{}", "000000001.target.png": b""}, "sample 000000001"),
        ({"x.json": b'{"name": "a", "decoded_bytes": 1}', "x.target.png": b""}, "sample x"),
        ({"1.json": b"[" * 100_000, "1.target.png": b""}, "sample 1"),
        ({"1.png": b""}, "sample 1"),
        ({}, "it has 0 of 1 samples"),
    ],
)
def test_foreign_tar_files_are_refused(
    tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match=f"a.tar is damaged .*{sentence}"):
        list(shard_reader.read_samples(str(tmp_path), "a.tar", 1))


class BrokenStream(io.BytesIO):
    """Stream that ends with an error of the network in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 10_000:
            raise http.client.IncompleteRead(b"")
        return super().read(size)


def test_interrupted_transfer_is_not_reported_as_damage(
    photos: Path, tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    content = (tmp_path / "train" / "shard-000001.tar").read_bytes()
    monkeypatch.setattr(memory, "open", lambda *_: BrokenStream(content))
    samples = shard_reader.read_samples("memory://bucket", "train/shard-000001.tar", 3)
    with pytest.raises(UserError) as caught:
        list(samples)
    place = "memory://bucket/train/shard-000001.tar"
    assert str(caught.value) == f"the transfer of {place} was interrupted: repeat the command"


def test_invalid_indexes_and_arguments_are_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    index = tmp_path / "shards.json"
    good = index.read_text()
    for old, new, sentence in (
        ('"format": 1', '"format": 9', "has format 9, but this version reads format 1"),
        ("train/shard-000000", "../shard-000000", "is damaged"),
        ('"samples": ', '"samples": -', "is damaged"),
        ('"side": ', '"side": null, "x": ', "is damaged"),
    ):
        index.write_text(good.replace(old, new))
        with pytest.raises(UserError, match=rf"shards\.json {sentence}"):
            sharded(tmp_path)
    index.unlink()
    with pytest.raises(UserError, match=r"has no shards \(no shards\.json\): run mode=prepare"):
        sharded(tmp_path)
    index.write_text(good)
    with pytest.raises(
        UserError, match=r"patch_size=128 .* shorter side of 64\): set patch_size=64"
    ):
        sharded(tmp_path, patch_size=128)
    with pytest.raises(UserError, match="use data=webdataset"):
        RestorationDataModule(
            Shards(tmp_path, "train"), Shards(tmp_path, "val"), patch_size=8
        ).setup()
    with pytest.raises(UserError, match="train must be a split of shards"):
        ShardDataModule(CleanFolder(tmp_path), Shards(tmp_path, "val"))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(
        UserError, match=r"need the package webdataset: pip install .*\[webdataset\]"
    ):
        sharded(tmp_path)


def test_random_damage_causes_no_other_error(photos: Path, tmp_path: Path) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    shard, index = tmp_path / "train" / "shard-000000.tar", tmp_path / "shards.json"
    refused = 0
    for path in (shard, index):
        content, rng = path.read_bytes(), np.random.default_rng(0)
        for _ in range(60):
            damaged = bytearray(content)
            for place in rng.integers(0, min(len(content), 4000), 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                found = Shards(tmp_path, "train").shards().shards[0]
                for sample in shard_reader.read_samples(str(tmp_path), found.file, found.samples):
                    sample.decode()
            except UserError:
                refused += 1
        path.write_bytes(content)
    assert refused > 60


def test_changed_shards_are_not_resumed(photos: Path, tmp_path: Path) -> None:
    data = original(photos, paired=True)
    samples: dict[Split, Sequence[Sample]] = {"train": data.train_samples, "val": data.val_samples}
    for seed in (0, 1):
        write(tmp_path / str(seed), samples, seed=seed)
    first, second = (sharded(tmp_path / str(seed)) for seed in (0, 1))
    first.load_state_dict(first.state_dict())
    with pytest.raises(RefusedError, match="the training images differ"):
        second.load_state_dict(first.state_dict())


def test_order_without_workers_is_recorded_if_they_can_not_be_started(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = original(photos, paired=True)
    write(tmp_path, {"train": data.train_samples, "val": data.val_samples})
    alone = sharded(tmp_path).state_dict()
    monkeypatch.setattr(datamodule, "choose_transfer", lambda *_: (Transfer.NONE, "no memory"))
    ours = sharded(tmp_path, num_workers=2)
    ours.load_state_dict(alone)
    loader = ours.train_dataloader()
    assert loader.num_workers == ours.readers(training=True) == 0
    assert ours.state_dict() == alone and alone["order"] == [1, 1, 10**9]
    assert capfd.readouterr().err == "Warning: no memory\n"


def test_files_in_memory_are_read_as_files_on_the_disk(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = (np.arange(48 * 48 * 3).reshape(48, 48, 3) * 7).astype(np.uint16)
    encoded = io.BytesIO()
    import tifffile

    tifffile.imwrite(encoded, deep)
    contents = [path.read_bytes() for path in sorted((photos / "gt").iterdir())[:4]]
    sample = shard_reader.ShardSample("s", 0, "n", 0, encoded.getvalue(), None)
    assert np.array_equal(sample.decode()[0], deep)
    for content in contents:
        sample = shard_reader.ShardSample("s", 0, "n", 0, content, content)
        in_memory = sample.decode()
        with monkeypatch.context() as patch:
            patch.delattr("os.memfd_create", raising=False)
            on_disk = sample.decode()
        for a, b in zip(in_memory, on_disk, strict=True):
            assert a is not None and b is not None and np.array_equal(a, b)
    broken = shard_reader.ShardSample("a.tar", 0, "cat", 0, contents[0][:300], None)
    with pytest.raises(UserError, match=r"^a\.tar \(cat, target\) "):
        broken.decode()
