"""``sweep=optuna``: resuming after a kill, failed and pruned trials, several objectives."""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from tests.conftest import Cli, ForkedCommand

from mprnet_lit.runs.folder import held
from mprnet_lit.sweeps import objectives
from mprnet_lit.sweeps.space import parse_space
from mprnet_lit.sweeps.study import Study
from mprnet_lit.training.checkpoints import AtomicCheckpointIO
from mprnet_lit.utils.errors import UserError, install_hint

SMALL = ("trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "data.num_workers=0",
         "logger=none", "~callbacks.panels")  # fmt: skip
SWEEP = ("sweep=optuna", "optimizer.lr=tag(log,interval(1e-5,1e-2))", "trainer.max_epochs=1",
         *SMALL)  # fmt: skip


def record(folder: Path, name: str = "denoise") -> Any:
    return json.loads((folder / "runs" / "sweeps" / name / "sweep.json").read_text())


def states(folder: Path, name: str = "denoise") -> list[Any]:
    return [trial["state"] for trial in record(folder, name)["trials"]]


def test_search_space_uses_hydra_syntax() -> None:
    space = parse_space(
        OverridesParser.create().parse_overrides(
            ["a=tag(log,interval(1e-5,1e-2))", "b=int(interval(2,8))", "c=tiny,small", "d=7",
             "e=range(1,4)", "f=choice(0.5,1)"]
        )
    )  # fmt: skip
    assert space.fixed == ["d=7"]
    assert space.searched == {
        "a": FloatDistribution(1e-5, 1e-2, log=True),
        "b": IntDistribution(2, 8),
        "c": CategoricalDistribution(["tiny", "small"]),
        "e": IntDistribution(1, 3),
        "f": CategoricalDistribution(["0.5", "1"]),
    }
    assert space.overrides({"a": 0.001, "c": "tiny"}) == ["d=7", "a=0.001", "c=tiny"]
    with pytest.raises(UserError, match=r"a=interval\(2,1\)"):
        parse_space(OverridesParser.create().parse_overrides(["a=interval(2,1)"]))


def test_trials_are_recorded_and_the_best_is_reported(cli: Cli, tmp_path: Path) -> None:
    cli(*SWEEP, "sweep.trials=2", "sweep.name=lr")
    first = record(tmp_path, "lr")["trials"]
    again = cli(*SWEEP, "sweep.trials=2", "sweep.name=lr", status=1)
    assert "the sweep 'lr' already exists: add resume=auto" in again.errors
    outcome = cli(*SWEEP, "sweep.trials=3", "sweep.name=lr", "resume=auto")
    found = record(tmp_path, "lr")
    assert found["trials"][:2] == first
    values = {t["number"]: t["values"]["psnr"] for t in found["trials"]}
    assert len(values) == 3
    (best,) = found["best"]
    assert values[best] == max(values.values())
    assert f"best: trial {best}, psnr {values[best]:.6g}: optimizer.lr=" in outcome.output
    for trial in found["trials"]:
        summary = tmp_path / "runs" / "sweeps" / "lr" / str(trial["number"]) / "summary.json"
        assert json.loads(summary.read_text())["psnr"] == trial["values"]["psnr"]
    rates = {trial["params"]["optimizer.lr"] for trial in found["trials"]}
    assert len(rates) == 3 and all(1e-5 <= rate <= 1e-2 for rate in rates)


def test_killed_sweep_resumes_its_running_trial(tmp_path: Path, cli: Cli) -> None:
    def kill_at_the_first_save() -> None:
        save = AtomicCheckpointIO.save_checkpoint

        def saved(self: Any, *arguments: Any, **options: Any) -> None:
            save(self, *arguments, **options)
            if checkpoint.exists():
                os.kill(os.getpid(), signal.SIGKILL)

        # Only in the forked process.
        AtomicCheckpointIO.save_checkpoint = saved  # type: ignore[method-assign]

    sweep = (*SWEEP, "sweep.trials=2", "trainer.max_epochs=2")
    checkpoint = tmp_path / "runs" / "sweeps" / "denoise" / "0" / "checkpoints" / "last.ckpt"
    process = ForkedCommand(tmp_path, *sweep, before=kill_at_the_first_save)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    outcome = cli(*sweep, "resume=auto")
    assert "resuming after step" in outcome.output
    trials = record(tmp_path)["trials"]
    assert states(tmp_path) == ["killed", "complete", "complete"]
    assert trials[0]["params"] == trials[1]["params"]
    assert trials[1]["folder"] == str(checkpoint.parents[1])


def test_failed_trial_is_recorded_and_the_sweep_continues(cli: Cli, tmp_path: Path) -> None:
    cli(*SWEEP, "sweep.trials=2", "data.patch_size=16,33", "seed=2", status=0)
    trials = record(tmp_path)["trials"]
    failed = [t for t in trials if t["params"]["data.patch_size"] == "33"]
    assert failed and trials[-1] not in failed
    for trial in trials:
        assert trial["state"] == ("failed" if trial in failed else "complete")
    assert all("data.patch_size=33 must be" in t["error"] for t in failed)


def test_grid_continues_after_a_failed_job_and_exits_with_an_error(
    cli: Cli, tmp_path: Path
) -> None:
    outcome = cli("-m", "data.patch_size=33,16", "trainer.max_steps=1", *SMALL, status=1)
    assert "at least one job of the sweep failed" in outcome.errors
    assert "Traceback" not in outcome.errors
    assert len(list(tmp_path.glob("runs/**/summary.json"))) == 1
    (note,) = tmp_path.glob("runs/**/error.txt")
    assert "data.patch_size=33 must be" in note.read_text()


def test_slow_trials_are_pruned(cli: Cli, tmp_path: Path) -> None:
    cli(*SWEEP, "sweep.trials=3", "sweep.startup_trials=1", "callbacks.pruner.warmup_epochs=0",
        "optimizer.lr=choice(1e-9,1e-2)", "trainer.max_epochs=2", "schedule.warmup_epochs=0",
        "schedule.min_warmup_steps=0", "model.start_from_identity=true", "seed=4")  # fmt: skip
    study = optuna.load_study(
        study_name="denoise", storage=f"sqlite:///{tmp_path}/runs/sweeps/denoise/study.db"
    )
    pruned = [t for t in study.trials if t.state.name == "PRUNED"]
    assert pruned
    assert all(len(t.intermediate_values) < 2 for t in pruned)
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    assert complete and all(len(t.intermediate_values) == 2 for t in complete)


def test_equal_killed_trials_resume_each_in_its_own_folder(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s/study.db"

    def study(resume: Any, objectives: tuple[str] = ("psnr",)) -> Study:
        return Study(storage, "s", objectives, resume=resume, seed=0, startup_trials=5)

    space = {"a": CategoricalDistribution(["1"])}
    first = study(False)
    begun = [first.ask(space, tmp_path / "s") for _ in range(2)]
    assert [trial.folder.name for trial in begun] == ["0", "1"]
    for turn in (1, 2):
        again = study(True)
        begun = [again.ask(space, tmp_path / "s") for _ in range(2)]
        assert [(t.number, t.folder.name) for t in begun] == [(2 * turn, "0"), (2 * turn + 1, "1")]
        assert again.finished() == 0
    assert study(True).finished() == 2  # a trial that repeatedly kills the sweep has failed
    third = study(True)
    third.record(tmp_path / "sweep.json")
    trials = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert [t["state"] for t in trials] == ["killed"] * 4 + ["failed"] * 2
    assert trials[5]["error"] == "killed 3 times"
    with pytest.raises(UserError, match="has other objectives"):
        study(True, ("ssim",))
    with pytest.raises(UserError, match="the search space differs from that of earlier trials"):
        third.ask({"a": CategoricalDistribution(["1", "2"])}, tmp_path)


def test_trial_with_non_finite_score_has_failed(tmp_path: Path) -> None:
    study = Study(
        f"sqlite:///{tmp_path}/s.db", "s", ["psnr"], resume=False, seed=0, startup_trials=1
    )
    trial = study.ask({"a": FloatDistribution(0, 1)}, tmp_path)
    study.tell(trial.number, [math.nan])
    study.record(tmp_path / "sweep.json")
    (found,) = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert found["state"] == "failed" and "psnr is not finite" in found["error"]


def test_tasks_are_searchable_and_sweeps_are_separate(cli: Cli, tmp_path: Path) -> None:
    sweep = ("sweep=optuna", "trainer.max_steps=1", *SMALL, "sweep.trials=1")
    cli(*sweep, "task=denoise,derain", "sweep.name='${task.name}'", "seed=0")
    (trial,) = record(tmp_path)["trials"]
    assert trial["params"]["task"] == "derain"
    assert trial["state"] == "complete"
    for name in ("a", "b"):
        cli(*sweep, "seed=1,2", f"sweep.name={name}", "resume=auto")
        for trial in record(tmp_path, name)["trials"]:
            assert trial["folder"] == str(
                tmp_path / "runs" / "sweeps" / name / str(trial["number"])
            )
            assert (tmp_path / trial["folder"] / "summary.json").is_file()


def test_study_in_use_is_refused(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "sweeps" / "denoise"
    folder.mkdir(parents=True)
    with held(folder):
        assert "another process is using" in cli(*SWEEP, status=1).errors


def test_signal_in_the_last_validation_ends_the_sweep(tmp_path: Path) -> None:
    process = ForkedCommand(tmp_path, "-m", "seed=0,1", "trainer.max_epochs=1", "logger=none",
                        "data.val_crop_size=256", "data.crops_per_image=1")  # fmt: skip
    folder = tmp_path / "runs" / "multirun"
    while not list(folder.glob("*/0/checkpoints/last.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143, output + errors
    assert "Stopped by SIGTERM" in output and "Traceback" not in errors
    assert not list(folder.glob("*/1/run.json"))


def test_several_objectives_report_the_pareto_front(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "_SIDE", 32)
    cli("sweep=optuna", "sweep.trials=2", "sweep.objectives=[psnr,parameters,latency]",
        *SMALL, "model.width=8,12", "trainer.max_steps=1", "seed=0")  # fmt: skip
    found = record(tmp_path)
    assert {trial["params"]["model.width"] for trial in found["trials"]} == {"8", "12"}
    for trial in found["trials"]:
        values = trial["values"]
        assert set(values) == {"psnr", "parameters", "latency"} and values["latency"] > 0
        assert values["parameters"] == (min if trial["params"]["model.width"] == "8" else max)(
            t["values"]["parameters"] for t in found["trials"]
        )
    assert found["best"]


def test_search_space_is_read_from_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "mine" / "sweep" / "rates.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\n"
        "defaults: [optuna]\n"
        "sweep:\n"
        "  name: rates\n"
        "  trials: 1\n"
        "  space: {optimizer.lr: 'tag(log,interval(1e-3,2e-3))', seed: 'range(5,9)'}\n"
    )
    cli("--config-dir=mine", "sweep=rates", "seed=3", "trainer.max_steps=1", *SMALL)
    (trial,) = record(tmp_path, "rates")["trials"]
    assert trial["params"].keys() == {"optimizer.lr"}  # the command line takes precedence
    assert 1e-3 <= trial["params"]["optimizer.lr"] <= 2e-3


def test_user_errors_are_one_sentence(cli: Cli) -> None:
    for arguments, sentence in (
        (("sweep=optuna", "seed=1"), "the search space is empty"),
        ((*SWEEP, "sweep.objectives=[psnr,beauty]"), "objectives contains beauty: choose from"),
        (("sweep=optuna", "seed=interval(2,1)"), "seed=interval(2,1)"),
        (("sweep=optuna", "model=tiny,smal"), "'smal' is not an option of model"),
        ((*SWEEP, "sweep.jobs=0"), "sweep.jobs=0 must be a whole number, 1 or more"),
        ((*SWEEP, "sweep.storage=nonsense"), "sweep.storage=nonsense can't be used"),
        ((*SWEEP, "'sweep.name=\"a?b\"'".strip("'")), "choose a name without '?'"),
        (("-m", "hydra/sweeper=optuna", "seed=1,2"), "use sweep=optuna instead"),
    ):
        outcome = cli(*arguments, status=1)
        assert sentence in outcome.errors and "Traceback" not in outcome.errors


def test_missing_optuna_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert install_hint("optuna") in cli(*SWEEP, status=1).errors
