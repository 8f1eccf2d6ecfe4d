"""Warning about collapsed stages, on the terminal and in the report."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.conftest import Cli

from mprnet_lit.reports.curves import Curve, collapse_notes, read_curves
from mprnet_lit.reports.trials import find_trials
from mprnet_lit.runs.collapse import find_collapse, first_check
from mprnet_lit.training.callbacks import EMA, CollapseWarning


def test_find_collapse() -> None:
    healthy = {f"psnr_stage{k}": 18.0 for k in (1, 2, 3)} | {"psnr_degraded": 20.5}
    assert find_collapse(healthy) is None
    assert find_collapse({}) is None
    nearly_clean = {"psnr_degraded": 38.0, "psnr_stage2": 31.7}  # step 150 of a healthy training
    assert find_collapse(nearly_clean) is None
    assert find_collapse(healthy | {"psnr_stage2": math.nan}) is None
    assert find_collapse(healthy | {"psnr_stage3": 6.33, "saturated_stage3": 0.95}) == (
        "stage 3 has 6.3 dB, 14.2 dB less than the degraded input and has 95% of its values "
        "wrongly outside [0, 1]"
    )
    assert find_collapse(healthy | {"saturated_stage1": 0.3}) == (
        "stage 1 has 30% of its values wrongly outside [0, 1]"
    )


def test_collapse_is_reported(cli: Cli) -> None:
    outcome = cli(
        "trainer.max_steps=2", "optimizer.lr=0.05", "logger=csv", "callbacks=collapse_warning",
        "schedule.warmup_epochs=0", "callbacks.collapse_warning.after_steps=2",
    )  # fmt: skip
    assert "Warning: after step 2, stage" in outcome.errors
    assert "lower optimizer.lr" in outcome.errors
    curves, _ = read_curves(outcome.file("metrics.csv").parents[2])
    assert collapse_notes(curves, first_check()) == []  # the report ignores the first 100 steps
    assert curves["val/saturated_stage3"].steps == [2]


def test_report_notes_the_first_collapse(tmp_path: Path) -> None:
    folder = tmp_path / "csv" / "version_0"
    folder.mkdir(parents=True)
    lines = ["step,epoch,val/psnr_degraded,val/psnr_stage3"]
    lines += ["49,1,20.5,6.0", "149,2,20.5,19.0", "249,3,20.5,6.0", "349,4,20.5,5.0"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    curves, _ = read_curves(tmp_path)
    assert collapse_notes(curves, first_check()) == [
        "after step 250, stage 3 has 6.0 dB, 14.5 dB less than the degraded input"
    ]


def test_collapse_is_found_within_one_validation() -> None:
    steps = [150, 250]
    values = {"val/psnr_degraded": [20.5, 10.0], "val/psnr_stage1": [19.0, 9.0]}
    curves = {name: Curve(steps, [1, 2], column) for name, column in values.items()}
    assert collapse_notes(curves, first_check()) == []  # 11.5 dB apart, in different validations
    for unmeasured in (math.nan, math.inf):
        curves["val/psnr_stage2"] = Curve(steps, [1, 2], [unmeasured, 2.0])
        assert collapse_notes(curves, first_check()) == [
            "after step 250, stage 2 has 2.0 dB, 8.0 dB less than the degraded input"
        ]


def test_warning_waits_until_averaged_weights_are_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def warns(step: int, *others: Any) -> bool:
        metrics = {"val/psnr_degraded": torch.tensor(20.5), "val/psnr_stage3": torch.tensor(6.0)}
        trainer: Any = SimpleNamespace(
            is_global_zero=True, global_step=step, callback_metrics=metrics, callbacks=others
        )
        CollapseWarning().on_validation_end(trainer, cast(Any, None))
        return "stage 3 has 6.0 dB" in capsys.readouterr().err

    assert warns(100) and warns(100, EMA(0.5)) and not warns(99)
    assert not warns(2999, EMA(0.999)) and warns(3001, EMA(0.999))
    assert not warns(10**9, EMA(1))


@pytest.mark.parametrize(("config", "steps"), [("{}", [150]), ("{ema: {decay: 0.99}}", [350])])
def test_report_waits_until_averaged_weights_are_trained(
    config: str, steps: list[int], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    (folder / "csv" / "version_0").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"mode: {{name: train}}\ncallbacks: {config}\n")
    for name in ("run.json", "summary.json", "environment.json"):
        (folder / name).write_text("{}")
    lines = ["step,epoch,val/psnr_degraded,val/psnr_stage3", "149,2,20.5,6.0", "349,4,20.5,5.0"]
    (folder / "csv" / "version_0" / "metrics.csv").write_text("\n".join(lines) + "\n")
    _, (trial,) = find_trials(tmp_path)
    assert [note.split(",")[0] for note in trial.notes] == [f"after step {k}" for k in steps]
