"""Bad input to the command line: a one-sentence error, exit status 1, no partial files."""

import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.conftest import PHOTOS, Cli, Outcome


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three valid pairs in ``in`` and ``gt``."""
    photo = Image.open(PHOTOS / "chelsea.png").convert("RGB")
    for side in ("in", "gt"):
        (tmp_path / side).mkdir()
        for k in range(3):
            photo.crop((40 * k, 0, 40 * k + 64, 64)).save(tmp_path / side / f"{k}.png")
    return tmp_path


PAIRED = ("data=paired", "data.train.degraded=in", "data.train.target=gt", "trainer.max_steps=1")


def error_message(outcome: Outcome) -> Any:
    """Return the error message, which must be the entire standard error of the command."""
    assert "Traceback" not in outcome.output + outcome.errors
    lines = [line for line in outcome.errors.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, outcome.errors
    return outcome.errors[outcome.errors.index("Error: ") :]


def test_missing_folder(cli: Cli, pairs: Path) -> None:
    shutil.rmtree(pairs / "gt")
    assert "the folder gt does not exist" in error_message(cli(*PAIRED, status=1))


def test_empty_folder(cli: Cli, pairs: Path) -> None:
    for path in (pairs / "in").iterdir():
        path.unlink()
    assert "the folder in contains no images (.avif .bmp" in error_message(cli(*PAIRED, status=1))


def test_folder_not_given(cli: Cli) -> None:
    message = error_message(cli("data=paired", "data.train.degraded=in", status=1))
    assert "data.train.target is not set: add data.train.target=VALUE" in message


def test_unmatched_unreadable_and_unequal_files_are_named_together(cli: Cli, pairs: Path) -> None:
    (pairs / "in" / "0.png").rename(pairs / "in" / "zero.png")
    cut = pairs / "gt" / "1.png"
    cut.write_bytes(cut.read_bytes()[:-100])
    (pairs / "in" / "2.png").write_text("hello")
    Image.new("RGB", (64, 48)).save(pairs / "in" / "3.png")
    Image.new("RGB", (64, 64)).save(pairs / "gt" / "3.png")
    message = error_message(cli(*PAIRED, status=1))
    assert "in/zero.png: no partner" in message
    assert "gt/0.png: no partner" in message
    assert "gt/1.png can't be read" in message
    assert "in/2.png is not an image" in message
    assert "in/3.png: 64x48, but its target gt/3.png is 64x64" in message


def test_skipping_bad_pairs_trains_on_the_rest_and_lists_them(cli: Cli, pairs: Path) -> None:
    (pairs / "in" / "2.png").write_text("hello")
    outcome = cli(*PAIRED, "data.on_error=skip", "trainer.limit_val_batches=0")
    assert "Skipped: in/2.png is not an image" in outcome.output
    assert "1 training and 1 validation images" in outcome.output


def test_corrupt_pixel_data_is_reported_with_the_file_name(cli: Cli, pairs: Path) -> None:
    """The PNG has valid checksums and damaged data, so that only decoding fails."""
    import struct
    import zlib

    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)), (b"IDAT", b"nonsense")]
    body = b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
        for n, d in [*chunks, (b"IEND", b"")]
    )
    for k in range(3):
        (pairs / "in" / f"{k}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    for workers in (0, 1):
        message = error_message(cli(*PAIRED, f"data.num_workers={workers}", status=1))
        assert "in/" in message and "can't be read" in message and "replace or remove it" in message


def test_patch_larger_than_every_image_is_refused(cli: Cli, pairs: Path) -> None:
    message = error_message(cli(*PAIRED, "data.patch_size=128", status=1))
    assert "data.patch_size=128 is larger than every training image" in message
    assert "set data.patch_size=64 or smaller" in message


def test_patch_size_not_a_multiple_of_eight_is_refused(cli: Cli) -> None:
    assert "data.patch_size=20 must be a positive multiple of 8" in error_message(
        cli("data.patch_size=20", status=1)
    )


def test_batch_size_not_a_multiple_of_accumulation_is_refused(cli: Cli) -> None:
    message = error_message(cli("data.batch_size=3", "trainer.accumulate_grad_batches=2", status=1))
    assert "data.batch_size=3" in message and "multiple of 2" in message


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("task=deblurr", "'deblurr' is not an option of task: did you mean 'deblur'?"),
        (
            "optimizer.rl=1",
            "in the configuration of mode=train: did you mean 'optimizer.lr'?",
        ),
        ("taks=deblur", "no key 'taks' in the configuration of mode=train: did you mean"),
        ("task=3", "task=3: task takes the name of one of its options"),
        ("task=[3", "can't read 'task=[3'"),
        ("model=[null]", "model=[null]: model takes the name of one of its options"),
        ("hydra.searchpath=[a://b]", "hydra.searchpath must list folders, or URLs with"),
        ("data.train.degradedd=x", "did you mean 'data.train.degraded'?"),
        ("model.width=8Z", "model.width=8Z must be a whole number from 1 to 4096"),
        ("model.reduction=0", "model.reduction=0 must be a whole number from 1 to 4096"),
        ("model.reduction=99", "model.reduction=99 must be at most model.width=8"),
        ("model.size=huge", "choose the network with model=tiny, model=small, model=base"),
        ("recipe=none", "there is no recipe 'none': choose one with recipe=NAME (cpu_deblur"),
        ("trainer.devices=none", "trainer.devices=none must be a number of devices"),
        ("trainer.max_epochs=many", "trainer.max_epochs=many must be a whole number"),
        ("trainer.precision=17", "trainer.precision=17 must be one of 32-true, bf16-mixed"),
        (
            "paths.runs=/proc/none",
            "can't use /proc/none: No such file or directory: set paths.runs",
        ),
        ("mode=dream", "'dream' is not a mode (modes: convert"),
        ("optimizer._target_=os.getcwd", "the settings under optimizer can't be used"),
        ("optimizer._target_=torch.optim.Adamm", "torch.optim.Adamm can't be imported"),
        ("optimizer.lr=fast", "optimizer.lr=fast must be a number above 0"),
        ("task.degradation.choices.1.sigma=[50,0]", "task.degradation.choices.1.sigma=[50, 0]"),
        ("weights=gone.pth", "the weights file gone.pth does not exist"),
        ("resume=gone.ckpt", "the checkpoint gone.ckpt does not exist"),
    ],
)
def test_configuration_errors_are_one_sentence(cli: Cli, argument: str, expected: str) -> None:
    assert expected in error_message(cli(argument, status=1))


def test_checkpoint_and_weights_of_another_size_are_refused(cli: Cli) -> None:
    first = cli("trainer.max_steps=1", "trainer.limit_val_batches=0", "logger=none")
    last = first.file("last.ckpt")
    for use in ("resume", "weights"):
        message = error_message(cli(f"{use}={last}", "model.width=24", status=1))
        assert "contains a network of another size (width=8" in message
        assert "model (width=24" in message


def test_weights_that_run_code_are_refused(cli: Cli, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    assert "contains code" in error_message(cli("weights=evil.pth", status=1))
    assert not (tmp_path / "ran").exists()


def test_full_disk_during_a_checkpoint_is_reported(shell: Cli) -> None:
    """A limit on the file size makes the write fail as on a full disk."""
    small = ("data.crops_per_image=1", "trainer.limit_val_batches=1", "logger=none")
    first = shell("trainer.max_epochs=1", *small)
    last = first.file("last.ckpt")
    before = last.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2,) * 2)

    again = (f"hydra.run.dir={last.parents[1]}", "resume=auto", "trainer.max_epochs=2")
    outcome = shell(*again, *small, status=1, preexec_fn=limit)
    message = error_message(outcome)
    assert "can't write the checkpoint" in message and "File too large" in message
    assert last.read_bytes() == before
    assert not list(last.parent.glob("*.part"))
