"""Resuming: settings are applied or rejected, and results refer to the resumed run."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.test_bad_input import error_message
from tests.config.test_config import compose
from tests.conftest import Cli, quick
from tests.reports.page_reading import read_csv

from mprnet_lit.__main__ import main
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.sources import Photos
from mprnet_lit.models import Size
from mprnet_lit.reports.trials import find_trials
from mprnet_lit.runs import folder as runs
from mprnet_lit.training import resume as resuming
from mprnet_lit.training.callbacks import stop_on_signal as stopping
from mprnet_lit.training.callbacks.checkpoint_states import best_of, check_moments
from mprnet_lit.training.checkpoints import AtomicCheckpointIO, matching, read_checkpoint
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.training.schedule import warmup_cosine
from mprnet_lit.utils import signals
from mprnet_lit.utils.errors import RefusedError, UserError
from mprnet_lit.weights import RECORD, Info

SMALL = (
    "data.num_workers=0", "trainer.limit_val_batches=1", "logger=none", "~callbacks.panels",
    "schedule.per_step=true",
)  # fmt: skip
STEPS = 5
"""Number of steps in an epoch."""


Change = Callable[[dict[str, Any]], object]
"""Function that changes the content of a checkpoint."""


def call(*arguments: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mprnet_lit", *quick([*SMALL, *arguments])])
        try:
            main()
        except SystemExit as ended:
            return ended.code
    return 0


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Complete run of two epochs, and a run that SIGHUP stopped after its eighth step."""
    folder = tmp_path_factory.mktemp("originals")
    step, names = RestorationModule.training_step, []

    def note(self: Any, batch: Any, batch_idx: int) -> Any:
        names.append(batch["name"])
        return step(self, batch, batch_idx)

    def hang_up(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == STEPS + 2:
            signal.raise_signal(signal.SIGHUP)
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(RestorationModule, "training_step", note)
        assert call("trainer.max_epochs=2", "hydra.run.dir=runs/denoise/whole") == 0
        (folder / "names.json").write_text(json.dumps(names))
        patch.setattr(RestorationModule, "training_step", hang_up)
        assert call("trainer.max_epochs=2", "hydra.run.dir=stopped") == 128 + signal.SIGHUP
    return folder


def logged_steps(folder: Path) -> list[int]:
    """Return the numbers of all steps with a training loss in the files metrics.csv of a run."""
    curves = [read_csv(path).get("train/loss", {}) for path in folder.glob("**/metrics.csv")]
    return sorted(step for curve in curves for step in curve)


@pytest.mark.parametrize("length", ["trainer.max_epochs=3", "trainer.max_steps=3"])
def test_signal_in_an_epoch_of_one_batch_stops_after_the_validation(
    small: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: str
) -> None:
    step, received_in = RestorationModule.training_step, 2  # the last step: it changes nothing

    def hang_up(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == received_in:
            signal.raise_signal(signal.SIGHUP)
        return step(self, batch, batch_idx)

    options = ("trainer.limit_train_batches=1", "trainer.max_epochs=-1", length, "logger=csv",
               "trainer.log_every_n_steps=1")  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(RestorationModule, "training_step", hang_up)
        small(*options, "hydra.run.dir=whole")
        received_in = 1
        small(*options, "hydra.run.dir=stopped", status=128 + signal.SIGHUP)
    assert read_checkpoint(tmp_path / "stopped" / runs.LAST)["global_step"] == 2
    small(*options, "hydra.run.dir=stopped", "resume=stopped")
    whole, resumed = (read_checkpoint(tmp_path / run / runs.LAST) for run in ("whole", "stopped"))
    assert whole["global_step"] == resumed["global_step"] == 3
    assert whole["epoch"] == resumed["epoch"]
    assert logged_steps(tmp_path / "whole") == logged_steps(tmp_path / "stopped") == [0, 1, 2]
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor)


@pytest.fixture
def complete_run(originals: Path, tmp_path: Path) -> Path:
    """Copy of the complete run."""
    return shutil.copytree(originals / "runs/denoise/whole", tmp_path / "runs/denoise/whole")


@pytest.fixture
def small(cli: Cli) -> Cli:
    return lambda *arguments, **options: cli(*SMALL, *arguments, **options)


def contents(folder: Path) -> dict[Any, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_changed_settings_take_effect_in_mid_epoch(
    originals: Path, small: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = originals / "stopped"
    before = read_checkpoint(stopped / runs.LAST)
    assert before["global_step"] == STEPS + 3
    assert set(before["change"]) > {0} and sum(before["change"]) % (STEPS + 3) == 0
    step, rates = RestorationModule.training_step, []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", training_step)
    outcome = small(
        f"resume={stopped}", "hydra.run.dir=there", "optimizer.lr=0.05", "trainer.max_epochs=3",
        "optimizer.weight_decay=0.1", "optimizer.betas=[0.8,0.99]", "schedule.extra_period=0",
        "schedule.warmup_epochs=1",
    )  # fmt: skip
    assert f"Resuming {stopped / runs.LAST} (epoch 1, step 8); changed:" in outcome.output
    assert "optimizer.lr 0.0002 -> 0.05" in outcome.output
    lengths = (1 * STEPS, 2 * STEPS, 1e-6 / 0.05)
    expected = [0.05 * warmup_cosine(k, *lengths) for k in range(STEPS + 3, 3 * STEPS)]
    assert rates == pytest.approx(expected)
    last = read_checkpoint(tmp_path / "there" / runs.LAST)
    (group,) = last["optimizer_states"][0]["param_groups"]
    assert (group["weight_decay"], tuple(group["betas"])) == (0.1, (0.8, 0.99))
    assert group["lr"] == pytest.approx(1e-6) and last["global_step"] == 3 * STEPS
    patches = sum(before["change"]) // (STEPS + 3)
    assert sum(last["change"]) == 3 * STEPS * patches, "the patches before the stop are counted"
    change = Info.of(last[RECORD]).change
    assert change is not None and 0 < change < 255

    # The best score is of the resumed run, although its high learning rate makes it worse.
    best = json.loads((tmp_path / "there/summary.json").read_text())
    assert best.pop("resumed_from") == str(stopped / runs.LAST)
    assert best == best_of(tmp_path / "there")
    assert f"Best validation: epoch {best['epoch']:.0f}" in outcome.output
    assert f"{best['psnr']:.2f} dB" in outcome.output
    callback = next(s for k, s in last["callbacks"].items() if "val/psnr" in k)
    assert callback["best_model_score"] == pytest.approx(best["psnr"])
    assert callback["best_model_path"] == "best.ckpt"


def test_settings_that_cannot_change_are_refused(
    complete_run: Path, small: Cli, tmp_path: Path
) -> None:
    last = complete_run / runs.LAST
    before = contents(complete_run)
    size = Size(**read_checkpoint(last)[RECORD]["size"])
    new = ("trainer.max_epochs=3", "paths.run=there")
    for arguments, expected in (
        (["data.patch_size=32", "seed=3"], "with seed=3, data.patch_size=32: it was trained with "),
        (["task=derain"], "it was trained with task.name=denoise"),
        (["optimizer._target_=torch.optim.AdamW"], "optimizer._target_=torch.optim.Adam."),
        (["trainer.max_steps=9"], "trainer.max_steps=9: the checkpoint is already at 10"),
        (["trainer.max_epochs=1"], "trainer.max_epochs=1: the checkpoint is already at 2"),
        (["weights=denoise"], "weights=denoise would have no effect with resume="),
        (["data.batch_size=4"], "it was trained with data.batch_size=2"),
    ):
        config = compose(*quick([*SMALL, *new, f"resume={last}", *arguments]))
        with pytest.raises(RefusedError) as refused:
            found = resuming.find_checkpoint(config, tmp_path / "there")
            assert found is not None
            resuming.read(config, found, size)
        assert expected in str(refused.value)
    outcome = small(f"resume={last}", "hydra.run.dir=there", *arguments, status=1)
    assert expected in error_message(outcome)
    assert not (tmp_path / "there" / runs.ERROR).exists()
    assert contents(complete_run) == before


def test_resuming_a_complete_run_changes_nothing(complete_run: Path, small: Cli) -> None:
    before = contents(complete_run)
    same = ("trainer.max_epochs=2", "hydra.run.dir=runs/denoise/whole")
    for resume in ("auto", complete_run / runs.LAST):
        output = small(*same, f"resume={resume}").output
        assert f"Already complete: {complete_run / runs.LAST}" in output
        for line in ("best weights", "last checkpoint", "run folder"):
            (path,) = (x.split()[-1] for x in output.splitlines() if x.strip().startswith(line))
            assert Path(path).exists()
        assert "panel" not in output
        kept = {p: c for p, c in before.items() if ".hydra" not in p.parts and p.suffix != ".log"}
        assert {p: p.read_bytes() for p in kept} == kept
    (complete_run / "summary.json").unlink()  # killed before the write
    small(*same, "resume=auto")
    assert (
        contents(complete_run)[complete_run / "summary.json"]
        == before[complete_run / "summary.json"]
    )
    changes = "optimizer.lr=1", "data.patterns=null"
    output = small(f"resume={complete_run}", "trainer.max_epochs=2", *changes).output
    assert "These changes have no effect: optimizer.lr 0.0002 -> 1" in output
    assert "data.patterns mprnet_lit.data.Patterns -> null" in output


def test_complete_checkpoint_outside_a_run_shows_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = resuming.Resumed(Path("/moved.ckpt"), "epoch 2, step 10", [], True, {})
    resuming.announce(compose(), tmp_path, moved)
    output = capsys.readouterr().out
    assert "Already complete: /moved.ckpt" in output and "run folder" not in output


def test_folder_of_another_run_is_refused(
    originals: Path,
    complete_run: Path,
    small: Cli,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = contents(complete_run)
    folder = "hydra.run.dir=runs/denoise/whole"
    for command, arguments in (
        (small, [folder]),
        (small, [folder, f"resume={originals / 'stopped'}"]),
        (cli, ["mode=evaluate", folder]),
    ):
        message = error_message(command(*arguments, status=1))
        assert (
            f"{complete_run} contains a run, which this command would overwrite: add resume"
            in message
        )
    assert {p: c for p, c in contents(complete_run).items() if p in before} == before
    assert {p.suffix for p in contents(complete_run).keys() - before.keys()} <= {".log"}
    for name, value in (("RANK", "1"), ("TORCHELASTIC_RESTART_COUNT", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            runs.refuse_existing(complete_run, None)
    runs.refuse_existing(complete_run, complete_run)
    runs.refuse_existing(complete_run.parent, None)


def test_resume_auto_explains_why_it_starts_a_new_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = compose("resume=auto")
    assert resuming.not_found(plain, False) == (
        "resume=auto found no run of this configuration in runs: starting a new one"
    )
    for name, overrides in (("far", ["seed=7", "optimizer.lr=1"]), ("near", ["seed=7"])):
        runs.record(compose(*overrides), Path("runs") / name)
    (tmp_path / "runs/old").mkdir()
    (tmp_path / "runs/old/run.json").write_text('{"fingerprint": "x", "order": 9}\n')
    assert "the nearest is runs/near, which differs in seed (7 there, 0 here): starting" in (
        resuming.not_found(plain, False)
    )
    assert "nearest" not in resuming.not_found(plain, True)
    assert "found runs/near, which has no checkpoint yet" in (
        resuming.not_found(compose("seed=7"), False)
    )
    last = tmp_path / "runs/near" / runs.LAST
    last.parent.mkdir()
    last.touch()
    assert "found runs/near, but hydra.run.dir names another folder" in (
        resuming.not_found(compose("seed=7"), False)
    )


def test_resume_of_a_folder_without_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty does not contain checkpoints"):
        resuming.find_checkpoint(compose("resume=empty"), tmp_path / "new")


def test_other_images_are_refused() -> None:
    def data(*names: Any, validation: str = "v", **options: Any) -> RestorationDataModule:
        module = RestorationDataModule(Photos("train"), Photos("val"), patch_size=8, **options)
        module.train_samples = [Sample(n, Path(n), None, 64, 64) for n in names]
        module.val_samples = [Sample(validation, Path(), None, 64, 64)]
        return module

    saved = data("a", "b").state_dict()
    data("a", "b", validation="w").load_state_dict(saved)  # takes effect
    data("a", "b").load_state_dict({})  # of an earlier version
    for other, expected in (
        (data("a", "b", "c"), "(2 images in the checkpoint, 3 now)"),
        (data("a", "z"), "(2 images with other names or sizes)"),
        (data("a", "b", crops_per_image=2), "differ from those of the checkpoint"),
    ):
        with pytest.raises(RefusedError) as refused:
            other.load_state_dict(saved)
        assert expected in str(refused.value)
    saved = data("a", "b", crops_per_image=2).state_dict()
    with pytest.raises(RefusedError, match=r"cache_gb=1e-05, because the order"):
        data("a", "b", crops_per_image=2, cache_gb=1e-5).load_state_dict(saved)


def test_best_score_is_read_from_best_ckpt(originals: Path, complete_run: Path) -> None:
    summary = json.loads((complete_run / "summary.json").read_text())
    assert best_of(complete_run) == summary
    assert best_of(complete_run, images="another validation set") == {}
    (complete_run / "checkpoints/best.ckpt").rename(complete_run / "checkpoints/elsewhere")
    (complete_run / "checkpoints/best.ckpt").symlink_to("elsewhere")
    assert best_of(complete_run) == {}


def test_sighup_is_handled_unless_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with signals.forward_signals():
        assert signal.getsignal(signal.SIGHUP) == signals._receive
        assert signal.SIGHUP in stopping._signals()
    assert signal.getsignal(signal.SIGHUP) == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup does this
    try:
        with signals.forward_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.SIGHUP not in stopping._signals()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_to_a_closed_terminal_is_discarded() -> None:
    master, terminal = os.openpty()
    try:
        signals.detach_from_terminal((terminal,))
        assert os.isatty(terminal)
        os.close(master)
        with pytest.raises(OSError, match="Input/output"):
            os.write(terminal, b"x")
        signals.detach_from_terminal((terminal,))
        assert os.write(terminal, b"x") == 1
    finally:
        os.close(terminal)


def test_error_of_a_failed_run_is_recorded_until_it_is_resumed(
    originals: Path, small: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(originals / "stopped", tmp_path / "runs/denoise/failed")
    arguments = ("trainer.max_epochs=2", "hydra.run.dir=runs/denoise/failed", "resume=auto")

    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(RestorationModule, "training_step", training_step)
        small(*arguments, status=1)
    error = tmp_path / "runs/denoise/failed/error.txt"
    assert error.read_text() == "RuntimeError: a bug\n"
    (trial,) = find_trials(tmp_path / "runs")[1]
    assert (trial.state, trial.error) == ("failed", "RuntimeError: a bug")
    with runs.held(error.parent):  # a run in use by another process is not marked as failed
        error.unlink()
        assert "another process is using" in error_message(small(*arguments, status=1))
    assert not error.exists()
    error.write_text("an earlier one")
    small(*arguments)
    assert not error.exists()
    assert find_trials(tmp_path / "runs")[1][0].state == "complete"


# Untrusted checkpoints


@pytest.fixture
def edit(complete_run: Path) -> Callable[[Change], Path]:
    """Return a function that edits the last checkpoint of the complete run."""

    def edited(change: Change) -> Path:
        content = torch.load(complete_run / runs.LAST, weights_only=True)
        change(content)
        torch.save(content, complete_run / runs.LAST)
        return complete_run / runs.LAST

    return edited


def test_paths_and_schedules_in_a_checkpoint_are_not_used(
    edit: Callable[[Change], Path], small: Cli, tmp_path: Path
) -> None:
    treasure = tmp_path / "there/checkpoints/treasure"
    far = tmp_path / "far"
    for folder in (treasure, far):
        folder.mkdir(parents=True)
        (folder / "gold").touch()

    def change(content: dict[str, Any]) -> None:
        for key, state in content["callbacks"].items():
            if not key.startswith("ModelCheckpoint"):
                continue
            bad = str(treasure) if "val/psnr" in key else f"local://{far}"
            worst = torch.tensor(-9.0)
            state |= dict.fromkeys(
                ("best_model_path", "last_model_path", "kth_best_model_path"), bad
            )
            state |= {"kth_value": worst, "best_model_score": worst}
            state["dirpath"] = str(tmp_path / "there/checkpoints")
            state["best_k_models"] = {bad: worst} if "val/psnr" in key else {}
        content["lr_schedulers"] = [{"step": "x", "optimizer": 1, "lr_lambdas": [{"__call__": 1}]}]
        content["optimizer_states"][0]["param_groups"][0] |= {"lr": 9.0, "surplus": 1}
        content["callbacks"]["Summary"] = {"best": "nonsense"}  # of an earlier version
        content["hyper_parameters"] = {"_target_": "os.system"}

    last = edit(change)
    new = ("hydra.run.dir=there", "trainer.max_epochs=3", "schedule.extra_period=0")
    small(f"resume={last}", *new)
    assert (treasure / "gold").exists() and (far / "gold").exists()
    saved = read_checkpoint(tmp_path / "there" / runs.LAST)
    assert not any(name in str(saved["callbacks"]) for name in ("treasure", "local:"))
    assert (tmp_path / "there/checkpoints/best.ckpt").is_file()
    (group,) = saved["optimizer_states"][0]["param_groups"]
    assert group["lr"] == pytest.approx(1e-6) and "surplus" not in group
    assert saved["lr_schedulers"][0]["last_epoch"] == 3 * STEPS


def test_only_regular_files_of_the_run_are_removed_or_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    files = AtomicCheckpointIO(folder)
    names = {"own": folder / "a.ckpt", "outside": tmp_path / "b.ckpt", "sub": folder / "sub/c.ckpt"}
    for path in names.values():
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "link.ckpt").symlink_to(names["outside"])
    os.mkfifo(folder / "pipe.ckpt")
    given: Any
    for given in (*names.values(), folder / "link.ckpt", folder / "pipe.ckpt", folder / "sub",
                  folder / "../../b.ckpt", f"file://{tmp_path}", "memory://x", folder):  # fmt: skip
        files.remove_checkpoint(given)
    assert not names["own"].exists() and names["outside"].exists() and names["sub"].exists()
    for name in ("link.ckpt", "pipe.ckpt", "sub"):
        with pytest.raises(UserError, match="is a link or a special file: remove it"):
            files.save_checkpoint({}, folder / name)
    folder.rename(tmp_path / "else")
    folder.symlink_to(tmp_path / "else")
    with pytest.raises(UserError, match="checkpoints is a link"):
        files.save_checkpoint({}, folder / "last.ckpt")


def set_value(value: Any, *keys: Any) -> Change:
    """Return a function that sets a nested value of a checkpoint."""

    def change(content: dict[str, Any]) -> None:
        *path, last = keys
        for key in path:
            content = content[key]
        content[last] = value

    return change


MOMENTS = ("optimizer_states", 0, "state", 0)


@pytest.mark.parametrize(
    "change",
    [
        set_value("many", "loops", "fit_loop", "epoch_loop.batch_progress", "total", "processed"),
        set_value({"total": "x", "running": 0}, "callbacks", "SkipNonFinite"),
        set_value(torch.zeros(3), *MOMENTS, "exp_avg"),
        set_value(torch.zeros(3), "state_dict", "model.tail.weight"),
    ],
    ids=range(4),
)
def test_states_of_wrong_types_are_refused(
    edit: Callable[[Change], Path], small: Cli, change: Change
) -> None:
    last = edit(change)
    message = error_message(small(f"resume={last}", "trainer.max_epochs=3", status=1))
    assert f"{last} can't be resumed: it does not fit this configuration" in message


@pytest.mark.parametrize(
    "change",
    [
        set_value([], "callbacks"),
        set_value("2", "global_step"),
        set_value(-1, "loops", "fit_loop", "epoch_progress", "current", "processed"),
        set_value("x", "mprnet_lit", "metrics"),
        set_value({"val/psnr": "x"}, "mprnet_lit", "metrics"),
        set_value("abc", "pytorch-lightning_version"),
        set_value(torch.zeros(()).expand(99), "state_dict", "x"),
        set_value(7, "RestorationDataModule"),
    ],
    ids=range(8),
)
def test_contents_of_wrong_types_are_refused(
    edit: Callable[[Change], Path], change: Change
) -> None:
    with pytest.raises(UserError, match="is not a training checkpoint of mprnet_lit"):
        read_checkpoint(edit(change))


def test_matching_checks_types() -> None:
    template = {"count": 0, "done": False, "inner": {"share": 0.5}}
    value = {"count": 3, "inner": {"share": 1, "surplus": "x"}, "reset": None}
    assert matching(template, value) == {"count": 3, "done": False, "inner": {"share": 1}}
    for bad in ({"count": "3"}, {"count": True}, {"count": -1}, {"done": 1}, {"inner": 3},
                {"inner": {"share": float("nan")}}, {"count": 10**400}, 5):  # fmt: skip
        with pytest.raises(ValueError):
            matching(template, bad)


def test_moments_of_another_optimizer_are_refused(
    edit: Callable[[Change], Path], small: Cli
) -> None:
    last = edit(set_value({"momentum_buffer": None}, *MOMENTS))
    message = error_message(small(f"resume={last}", "trainer.max_epochs=3", status=1))
    assert "state of another optimizer (with momentum_buffer, but the configured" in message


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adafactor", "RMSprop", "NAdam", "Rprop"])
def test_moments_of_every_optimizer_are_accepted(name: str) -> None:
    def make(parameters: Any) -> Any:
        return getattr(torch.optim, name)(parameters)

    def network() -> Any:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 1))

    trained = network()
    optimizer = make(trained.parameters())
    trained(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    states = optimizer.state_dict()["state"]
    fresh = make(network().parameters())
    check_moments(states, fresh, make)
    with pytest.raises(ValueError, match="no parameter 4"):
        check_moments({4: {}}, fresh, make)


def test_another_number_of_batches_per_epoch_is_refused(
    edit: Callable[[Change], Path], small: Cli
) -> None:
    def change(
        content: dict[str, Any],
    ) -> None:  # an earlier version did not save the number of images
        del content["RestorationDataModule"]
        content["callbacks"]["CheckpointStates"]["batches_per_epoch"] = 6

    last = edit(change)
    message = error_message(small(f"resume={last}", "trainer.max_epochs=3", status=1))
    assert "an epoch had 6 batches at the checkpoint, and has 5 now" in message


def test_resuming_after_max_steps_in_mid_epoch(
    originals: Path, small: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = RestorationModule.training_step, []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        seen.append(batch["name"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", training_step)
    small("trainer.max_steps=7", "hydra.run.dir=short")
    seen_before = len(seen)
    outcome = small("trainer.max_epochs=2", "resume=short", "hydra.run.dir=long")
    assert seen_before == 7
    assert "Resuming short/checkpoints/last.ckpt (epoch 1, step 7)" in outcome.output
    assert seen == json.loads((originals / "names.json").read_text())
    assert len(seen) == 2 * STEPS
    assert json.loads((tmp_path / "long/summary.json").read_text())["step"] == 2 * STEPS
