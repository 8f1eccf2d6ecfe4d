"""``mode=prepare`` and ``data=prepared``: identical patches without decoding."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli, ForkedCommand

from mprnet_lit.data import PairedFolders
from mprnet_lit.data.datasets import CropDataset
from mprnet_lit.data.progress import append_progress
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.data.store import Prepared
from mprnet_lit.runs.folder import held
from mprnet_lit.utils.errors import UserError

PAIRED = ("data=paired", "data.train.degraded=in", "data.train.target=gt")
PREPARE = ("mode=prepare", *PAIRED, "output=store")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five pairs of photographs, one of them with 16 bits."""
    photo = np.asarray(Image.open(PHOTOS / "coffee.png").convert("RGB"))
    for k in range(5):
        part = photo[60 * k : 60 * k + 80, 50 * k : 50 * k + 100]
        for side, image in (("in", part), ("gt", 255 - part)):
            path = tmp_path / side / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            deep = image.astype(np.uint16) * 257 + (k == 3) * 5
            cv2.imwrite(str(path), deep if k == 3 else image)
    return tmp_path


def index(folder: Path) -> Any:
    return json.loads((folder / "store" / "index.json").read_text())


def test_patches_equal_those_of_the_images_bit_for_bit(cli: Cli, pairs: Path) -> None:
    outcome = cli(*PREPARE)
    assert "4 training and 1 validation samples" in outcome.output
    prepared = Prepared(pairs / "store", "train").samples("raise")
    held_out = {s.name for s in Prepared(pairs / "store", "val").samples("raise")}
    folders = PairedFolders(pairs / "in", pairs / "gt").samples("raise")
    unprepared = [s for s in folders if s.name not in held_out]
    for training in (True, False):
        ours, theirs = (
            CropDataset(samples, crop_size=48, training=training, crops_per_image=2)
            for samples in (prepared, unprepared)
        )
        for k in range(len(theirs)):
            a, b = ours[ItemKey(1, k)], theirs[ItemKey(1, k)]
            assert a["name"] == b["name"]
            assert torch.equal(a["degraded"], b["degraded"])
            assert torch.equal(a["target"], b["target"])


def test_training_on_a_store_gives_the_same_weights(cli: Cli, pairs: Path) -> None:
    cli(*PREPARE)
    options = ("trainer.max_steps=2", "trainer.limit_val_batches=0", "logger=none",
               "data.num_workers=1")  # fmt: skip
    weights = []
    for name, data in (
        ("plain", PAIRED),
        ("prepared", ("data=prepared", "data.train.folder=store")),
    ):
        cli(*data, *options, f"paths.runs=runs/{name}")
        path = next(pairs.glob(f"runs/{name}/**/last.ckpt"))
        weights.append(torch.load(path, weights_only=True)["state_dict"])
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


def test_clean_photos_in_a_store_are_degraded_on_the_fly(cli: Cli, tmp_path: Path) -> None:
    assert "5 training and 3 validation" in cli("mode=prepare", "output=store").output
    outcome = cli("data=prepared", "data.train.folder=store", "debug=fast", "logger=none")
    assert outcome.json("summary.json")["psnr_degraded"] < 60


def test_killed_preparation_is_resumed(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_after_six() -> None:
        def noted(stored: Any, path: Path) -> None:
            append_progress(stored, path)
            if notes.read_text().count("\n") == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        # This patch affects only the forked process.
        monkeypatch.setattr("mprnet_lit.cli.prepare.append_progress", noted)

    notes = pairs / "store" / "progress.jsonl"
    process = ForkedCommand(pairs, *PREPARE, before=kill_after_six)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (pairs / "store" / "index.json").exists()
    assert "store is incomplete" in error_message(
        cli("data=prepared", "data.train.folder=store", status=1)
    )
    notes.write_text(notes.read_text() + '{"file": "train/half')  # killed during a write
    stored = {p: p.stat().st_mtime_ns for p in pairs.glob("store/*/*.npy")}
    outcome = cli(*PREPARE)
    assert "6 of 10 images are already prepared" in outcome.output
    kept = sum(path.stat().st_mtime_ns == written for path, written in stored.items())
    assert kept >= 6
    assert not notes.exists()
    assert (
        "all 10 files of store are intact"
        in cli("mode=prepare", "prepare.verify=true", "output=store").output
    )


def test_changed_and_new_images_are_prepared_again(cli: Cli, pairs: Path) -> None:
    cli(*PREPARE)
    Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(pairs / "in" / "0.png")
    os.utime(pairs / "in" / "0.png", (1, 1))
    assert (
        "has changed: run mode=prepare"
        in cli("mode=prepare", "prepare.verify=true", "output=store").output
    )
    assert "9 of 10 images are already prepared" in cli(*PREPARE).output
    samples = [s for split in ("train", "val") for s in Prepared("store", split).samples("raise")]
    black = next(s for s in samples if s.name == "0")
    assert black.degraded is not None and not np.load(black.degraded).any()


def test_incomplete_store_is_refused_for_training(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*PREPARE)
    for side in ("in", "gt"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(pairs / side / "0.png")

    def killed(stored: Any, path: Path) -> None:
        append_progress(stored, path)
        raise KeyboardInterrupt

    monkeypatch.setattr("mprnet_lit.cli.prepare.append_progress", killed)
    cli(*PREPARE, status=130)
    train = ("data=prepared", "data.train.folder=store")
    assert "store is incomplete" in error_message(cli(*train, status=1))
    monkeypatch.setattr("mprnet_lit.cli.prepare.append_progress", append_progress)
    assert " of 10 images are already prepared" in cli(*PREPARE).output
    assert Prepared("store", "train").samples("raise")


def test_images_removed_from_the_data_set_are_deleted(cli: Cli, pairs: Path) -> None:
    cli(*PREPARE)
    (pairs / "store" / "train" / "mine.npy").write_bytes(b"not of the store")
    for side in ("in", "gt"):
        (pairs / side / "4.png").unlink()
    assert "deleted 2 images" in cli(*PREPARE).output
    left = {path.name for path in pairs.glob("store/*/*.npy")}
    assert len(left) == 9 and "mine.npy" in left


def test_non_unicode_names_are_stored(cli: Cli, pairs: Path) -> None:
    for side in ("in", "gt"):
        (pairs / side / "1.png").rename(pairs / side / os.fsdecode(b"caf\xe9.png"))
    cli(*PREPARE)
    assert any("caf" in s.name for s in Prepared("store", "train").samples("raise"))


def test_damaged_entries_are_detected_and_prepared_again(cli: Cli, pairs: Path) -> None:
    cli(*PREPARE)
    path = pairs / "store" / index(pairs)["train"][0]["target"]["file"]
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    message = error_message(cli("mode=prepare", "prepare.verify=true", "output=store", status=1))
    assert "1 of 10 files are damaged" in message and path.name in message
    path.unlink()
    train = ("data=prepared", "data.train.folder=store", "debug=fast")
    assert "is missing from the store" in error_message(cli(*train, status=1))
    assert "9 of 10 images are already prepared" in cli(*PREPARE).output
    cli("mode=prepare", "prepare.verify=true", "output=store")


def test_invalid_stores_are_refused(cli: Cli, pairs: Path) -> None:
    cli(*PREPARE)
    path = pairs / "store" / "index.json"
    good = path.read_text()
    first = index(pairs)["train"][0]["target"]["file"]
    for content, sentence in (
        (
            good.replace('"format": 1', '"format": 9'),
            "has format 9, but this version reads",
        ),
        (good.replace(first, f"../{first}"), "index.json is damaged"),
        (good.replace(first, f"/etc/{first}"), "index.json is damaged"),
        (good.replace(first, first.replace("/", "\\\\")), "index.json is damaged"),
        (good.replace('"height": 80', '"height": null'), "index.json is damaged"),
        (good[:200], "index.json is damaged"),
        ("[]", "index.json is damaged"),
    ):
        path.write_text(content)
        with pytest.raises(UserError) as error:
            Prepared("store", "train").samples("raise")
        assert sentence in str(error.value)
    message = error_message(cli("data=prepared", "data.train.folder=store", status=1))
    assert sentence in message
    message = error_message(cli("data=prepared", "data.train.folder=in", status=1))
    assert "in is not a prepared store" in message
    path.write_text(good)
    message = error_message(
        cli("mode=prepare", "data=prepared", "data.train.folder=store", "output=b", status=1)
    )
    assert "is already prepared" in message


def test_store_is_locked_during_preparation(cli: Cli, pairs: Path) -> None:
    with held(pairs / "store"):
        message = error_message(cli(*PREPARE, status=1))
    assert "another process is using store: wait until it has ended, or stop it" in message
    assert [path.name for path in (pairs / "store").iterdir()] == [".lock"]
    cli(*PREPARE)


def test_store_with_linked_folder_is_refused(cli: Cli, pairs: Path) -> None:
    elsewhere = pairs / "elsewhere" / f"{'0' * 24}.npy"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"kept")
    (pairs / "store").mkdir()
    (pairs / "store" / "train").symlink_to(elsewhere.parent)
    assert "store/train is a symbolic link" in error_message(cli(*PREPARE, status=1))
    assert [path.name for path in elsewhere.parent.iterdir()] == [elsewhere.name]


def test_unreadable_image_and_full_disk_are_reported(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = pairs / "in" / "2.png"
    content = cut.read_bytes()

    def break_it() -> None:  # after the listing of the files
        cut.write_bytes(content[:-40])

    monkeypatch.setattr("mprnet_lit.cli.prepare.check_room", lambda *_: break_it(), raising=True)
    message = error_message(cli(*PREPARE, status=1))
    assert "1 images could not be prepared" in message and "2.png" in message
    assert not (pairs / "store" / "index.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(pairs)
    (pairs / "full" / "train").mkdir(parents=True)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    full = (*PREPARE[:-1], "output=full", "data.on_error=skip")
    message = error_message(cli(*full, status=1))
    assert message.count("No space left") == 1 and "full/" in message
    monkeypatch.undo()
    monkeypatch.chdir(pairs)
    cut.write_bytes(content)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert "needs 0.0002 GB, but its disk has 0 GB free" in error_message(
        cli(*PREPARE[:-1], "output=other", status=1)
    )
    assert not (pairs / "other").exists()
