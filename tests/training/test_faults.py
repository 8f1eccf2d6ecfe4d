"""Faults during a training: it continues or ends with a one-sentence error."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli, Outcome
from torch import nn
from torch.utils.data import DataLoader

from mprnet_lit.training.callbacks.ema import EMA
from mprnet_lit.training.callbacks.skip_nonfinite import SkipNonFinite
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils.compat import averaged_model
from mprnet_lit.utils.errors import UserError

TINY = ("trainer.limit_val_batches=1", "~callbacks.panels")


class Line(LightningModule):
    """Fits a line to batches of two images; batches with a ``bad`` image have a non-finite loss."""

    def __init__(
        self,
        bad: Any,
        worth: float = float("nan"),
        fused: bool = False,
        optimizer: Any = torch.optim.Adam,
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.bad, self.worth, self.fused, self.optimizer = bad, worth, fused, optimizer
        self.seen: list[list[torch.Tensor]] = []
        self.averages: list[list[torch.Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch["x"]).square().mean()
        if self.bad & set(batch["name"]):
            # Infinite with finite gradients, or NaN with NaN gradients.
            loss = loss + self.worth if self.worth == float("inf") else loss * self.worth
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        trainer: Any = self.trainer
        average = next(c for c in trainer.callbacks if isinstance(c, EMA))
        states = trainer.optimizers[0].state.values()
        self.seen.append(
            [
                *(p.detach().clone() for p in self.parameters()),
                *(t.clone() for s in states for t in s.values()),
            ]
        )
        averaged = averaged_model(average).module.parameters()
        self.averages.append([p.detach().clone() for p in averaged])

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters(), lr=0.1, fused=self.fused)


def fit(
    bad: Any,
    limit: int = 3,
    worth: float = float("nan"),
    fused: bool = False,
    resume: Any = None,
    optimizer: Any = torch.optim.Adam,
    **trainer: Any,
) -> tuple[Any, Any]:
    torch.manual_seed(0)
    items: Any = [{"x": x, "name": f"image{k}"} for k, x in enumerate(torch.rand(16, 4))]
    module, steps = Line(bad, worth, fused, optimizer), SkipNonFinite("runs/x", limit)
    Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[EMA(decay=0.5), steps], **trainer,
    ).fit(module, DataLoader(items, batch_size=2), ckpt_path=resume)  # fmt: skip
    return module, steps


def equal(first: Any, second: Any) -> Any:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def scaled() -> dict[str, Any]:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


@pytest.mark.parametrize("worth", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "options",
    [
        {"fused": True},
        {"gradient_clip_val": 0.5},
        {"precision": "bf16-mixed"},
        {"scaler": True},
        {"scaler": True, "fused": True},
    ],
    ids=str,
)
def test_non_finite_step_is_skipped_and_reported(
    options: dict[str, Any], worth: float, capsys: pytest.CaptureFixture[str]
) -> None:
    options = dict(options)
    if options.pop("scaler", False):
        options |= scaled()
    module, steps = fit({"image4", "image6"}, worth=worth, **options)
    seen = module.seen
    assert equal(seen[1], seen[2]) and equal(seen[2], seen[3])
    assert not equal(seen[0], seen[1]) and not equal(seen[3], seen[4])
    average = module.averages[1]  # the skipped step averages the unchanged weights
    assert equal(module.averages[2], [(a + w) / 2 for a, w in zip(average, seen[1], strict=False)])
    assert (steps.total, steps.consecutive) == (2, 0)
    said = capsys.readouterr().err
    assert "Warning: step 3 was skipped: its loss is not finite (images: image4, image5)" in said
    assert all(torch.isfinite(t).all() for t in seen[-1])


def test_accumulated_batches_are_skipped_together_and_the_bad_batch_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, steps = fit({"image4"}, accumulate_grad_batches=2)
    seen = module.seen
    assert equal(seen[1], seen[2]) and equal(seen[2], seen[3]) and equal(seen[3], seen[4])
    assert not equal(seen[4], seen[5])
    assert steps.total == 1
    assert "step 2 was skipped: its loss is not finite (images: image4, image5)" in (
        capsys.readouterr().err
    )


def test_non_finite_first_step_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    module, _ = fit({"image0"})
    assert not equal(module.seen[0], module.seen[1])


def test_fused_momentum_starts_after_a_non_finite_first_step() -> None:
    momentum = partial(torch.optim.SGD, momentum=0.9)
    skipped, _ = fit({"image0"}, fused=True, optimizer=momentum)
    expected, _ = fit({"image0"}, optimizer=momentum)
    assert equal(skipped.seen[0], expected.seen[0])
    for found, other in zip(skipped.seen[-1], expected.seen[-1], strict=True):
        torch.testing.assert_close(found, other)


def test_fused_momentum_with_a_loss_scale_is_refused() -> None:
    momentum = partial(torch.optim.SGD, momentum=0.9)
    with pytest.raises(UserError, match=r"SGD with fused=true .* remove optimizer.fused"):
        fit(set(), fused=True, optimizer=momentum, **scaled())


def test_too_many_consecutive_skipped_steps_end_the_training() -> None:
    with pytest.raises(
        UserError, match=r"3 consecutive steps .* step 5 \(images: image8, image9\): lower opt"
    ):
        fit({"image4", "image6", "image8"})


def test_overflow_during_the_search_for_the_loss_scale_is_not_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = scaled()
    options["plugins"][0].scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    module, steps = fit(set(), **options)
    assert equal(module.seen[0][:2], module.seen[1][:2]) and steps.total == 0
    assert capsys.readouterr().err.count("Warning: step") == 0


class NonFiniteOnSecondProcess(Line):
    """Only the loss of the second process is infinite; all gradients are finite."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.in_step = True
        return loss + float("inf") if self.global_rank == 1 and batch_idx == 1 else loss

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.in_step = False
        super().on_train_batch_end(*arguments)

    def on_fit_start(self) -> None:
        """Print the barriers of the steps, in which the host would wait."""
        barrier, self.in_step = torch.distributed.barrier, False

        def printed(*arguments: Any, **options: Any) -> Any:
            if self.in_step:
                print("a barrier in a step", file=sys.stderr)
            return barrier(*arguments, **options)

        torch.distributed.barrier = printed  # in the child processes only


def test_two_devices_skip_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.training.test_faults.Line", NonFiniteOnSecondProcess)
    fit(set(), strategy="ddp_fork", devices=2)
    printed = capfd.readouterr().err
    assert printed.count("Warning: step 2 was skipped: its loss is not finite (images: ") == 1
    assert "a barrier in a step" not in printed


def test_diverging_training_ends_and_keeps_its_checkpoint(cli: Cli) -> None:
    options = (
        *TINY,
        "trainer.max_epochs=3",
        "optimizer.lr=1e30",
        "callbacks.skip_nonfinite.max_consecutive=7",
    )
    outcome = cli(*options, "schedule.warmup_epochs=0", "logger=csv", status=1)
    message = error_message(outcome)
    assert "7 consecutive steps were skipped" in message
    assert "lower optimizer.lr" in message and "gradient_clip_val" in message
    weights = torch.load(outcome.file("last.ckpt"), weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def out_of_memory_above(
    patches: int,
    monkeypatch: pytest.MonkeyPatch,
    from_step: int = 0,
    error: Any = torch.OutOfMemoryError,
) -> None:
    step = RestorationModule.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if len(batch["target"]) > patches and self.trainer.global_step >= from_step:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", training_step)


def last(outcome: Outcome, under: str = "**") -> Any:
    (path,) = outcome.folder.glob(f"runs/{under}/last.ckpt")
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_in_a_training_step_suggests_smaller_micro_batches(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    out_of_memory_above(0, monkeypatch, error=error)
    message = error_message(cli(*TINY, "data.batch_size=6", "logger=none", status=1))
    assert "out of memory with 6 patches per device (DefaultCPUAllocator" in message
    assert "set trainer.accumulate_grad_batches=2 (the total batch size stays" in message
    assert "module.gradient_checkpointing=true or a smaller data.patch_size" in message
    accumulated = ("data.batch_size=3", "trainer.accumulate_grad_batches=3")
    message = error_message(cli(*TINY, *accumulated, "logger=none", status=1))
    assert "with 1 patches per device" in message
    assert "set module.gradient_checkpointing=true" in message


def test_out_of_memory_in_the_validation_suggests_smaller_crops(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(RestorationModule, "validation_step", validation_step)
    message = error_message(cli(*TINY, "logger=none", status=1))
    assert "out of memory in validation (no memory): set a smaller data.val_crop_size" in message


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[str, str, str, str]:
    photo = Image.open(PHOTOS / "coffee.png").convert("RGB")
    for side in ("in", "gt"):
        (tmp_path / side).mkdir()
        for k in range(4):
            photo.crop((40 * k, 0, 40 * k + 64, 64)).save(tmp_path / side / f"{k}.png")
    return ("data=paired", "data.train.degraded=in", "data.train.target=gt", "data.holdout=0.25")


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> None:
    step = RestorationModule.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == number:
            action()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", training_step)


def test_missing_file_is_named_and_the_run_resumes_once_it_is_back(
    cli: Cli, pairs: tuple[str, str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish() -> None:
        for k in range(4):
            (tmp_path / "in" / f"{k}.png").rename(tmp_path / "in" / f"{k}.gone")

    options = (*TINY, *pairs, "trainer.max_epochs=3", "data.cache_gb=0", "logger=none")
    with monkeypatch.context() as patch:
        at_step(patch, 4, vanish)
        message = error_message(cli(*options, status=1))
    assert (
        "in/" in message
        and "was deleted while it was in use: restore the file and resume" in message
    )
    for path in (tmp_path / "in").glob("*.gone"):
        path.rename(path.with_suffix(".png"))
    assert "resuming after step 3" in cli(*options, "resume=auto").output


def test_killed_data_worker_is_reported(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    others = psutil.Process().children()  # such as the browser of other tests

    def kill() -> None:
        for child in psutil.Process().children():
            if child not in others:
                child.send_signal(signal.SIGKILL)

    at_step(monkeypatch, 5, kill)
    outcome = cli(*TINY, "data.num_workers=1", "trainer.max_epochs=9", "logger=none", status=1)
    message = error_message(outcome)
    assert "a DataLoader worker died unexpectedly" in message and "resume=auto to resume" in message
    assert last(outcome)["global_step"] == 5


def test_error_in_a_data_worker_is_not_reported_as_its_death(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(
        "from mprnet_lit.data.degradations import Degradation\n"
        "class Broken(Degradation):\n"
        "    def __call__(self, image, rng):\n"
        "        raise TypeError('mine')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    broken = ("data.degradation={_target_: broken.Broken}", "data.num_workers=1", "logger=none")
    errors = cli(*TINY, *broken, status=1).errors
    assert "a DataLoader worker died" not in errors
    assert "TypeError: mine" in errors and 'broken.py", line 4' in errors


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that mounts file systems."""
    made = []

    def mounted(name: str, options: Any) -> Any:
        made.append(tmp_path / name)
        made[-1].mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(made[-1])]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount a file system")
        return made[-1]

    yield mounted
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_is_reported_and_the_run_resumes(
    cli: Cli, mount: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mount("disk", "size=8m")

    def fill() -> None:
        with (disk / "other").open("wb") as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(4096))
                file.flush()

    options = (*TINY, f"paths.runs={disk}", "trainer.max_epochs=2", "logger=csv")
    with monkeypatch.context() as patch:
        at_step(patch, 7, fill)
        message = error_message(cli(*options, status=1))
    assert "No space left on device" in message and "can't write" in message
    (path,) = disk.glob("**/last.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 5
    assert not list(disk.glob("**/*.part"))
    (disk / "other").unlink()
    assert "resuming after step 5" in cli(*options, "resume=auto").output


def test_read_only_disk_is_reported(cli: Cli, mount: Callable[..., Any]) -> None:
    options = (*TINY, f"paths.runs={mount('disk', 'ro')}", "logger=csv")
    assert "Read-only file system" in error_message(cli(*options, status=1))


def test_newest_run_is_found_after_the_clock_was_set_back(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*TINY, "trainer.max_steps=1", "logger=none")
    first = cli(*options).file("last.ckpt")
    os.utime(first, (4e9, 4e9))  # modification time in 2096
    noon = 1e9 + 40_000  # 2001-09-09 in nearly every time zone
    monkeypatch.setattr("mprnet_lit.runs.folder.time.time", lambda: noon)
    cli(*options)
    output = cli(*options, "resume=auto").output
    assert "2001-09-09" in output and str(first.parents[1]) not in output


def test_number_of_skipped_steps_is_logged(cli: Cli) -> None:
    path = cli(*TINY, "trainer.max_steps=1", "logger=csv").file("metrics.csv")
    with path.open() as file:
        assert {row["train/skipped_steps"] for row in csv.DictReader(file)} >= {"0.0"}
