"""Warning about collapsed stages, on the terminal and in the report."""

import math
from pathlib import Path

from tests.conftest import Cli

from mprnet_lit.reports.curves import read_curves
from mprnet_lit.runs.collapse import find_collapse


def test_find_collapse() -> None:
    healthy = {f"psnr_stage{k}": 18.0 for k in (1, 2, 3)} | {"psnr_degraded": 20.5}
    assert find_collapse(healthy) is None
    assert find_collapse({}) is None
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
    curves, notes = read_curves(outcome.file("metrics.csv").parents[2])
    assert notes == []  # the report ignores the first 100 steps
    assert [p.step for p in curves["val/saturated_stage3"]] == [2]


def test_report_notes_the_first_collapse(tmp_path: Path) -> None:
    folder = tmp_path / "csv" / "version_0"
    folder.mkdir(parents=True)
    lines = ["step,epoch,val/psnr_degraded,val/psnr_stage3"]
    lines += ["49,1,20.5,6.0", "149,2,20.5,19.0", "249,3,20.5,6.0", "349,4,20.5,5.0"]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    notes = read_curves(tmp_path)[1]
    assert notes == ["after step 250, stage 3 has 6.0 dB, 14.5 dB less than the degraded input"]
