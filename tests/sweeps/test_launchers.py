"""Sweeps by joblib, Ray and submitit, each for real on this machine."""

import json

import pytest
from tests.test_config import compose

from mprnet_lit.config import explain

GRID = ("-m", "optimizer.lr=1e-3,1e-4", "seed=0,1", "trainer.max_steps=1", "logger=none")
LOCAL = "hydra/launcher=submitit_local"


@pytest.mark.parametrize("launcher", ["launch=joblib", "launch=ray", LOCAL])
def test_a_grid_of_four(shell, launcher):
    outcome = shell(launcher, *GRID)
    found = {}
    for summary in outcome.folder.glob("runs/multirun/*/*/summary.json"):
        run = summary.parent
        overrides = (run / ".hydra" / "overrides.yaml").read_text()
        assert "psnr" in json.loads(summary.read_text())
        found[run.name] = tuple(
            line.strip("- ") for line in overrides.splitlines() if "lr=" in line or "seed=" in line
        )
    assert sorted(found) == ["0", "1", "2", "3"]
    assert len(set(found.values())) == 4


def test_trials_of_optuna_run_at_once_and_one_may_fail(shell):
    outcome = shell(
        "sweep=optuna", "launch=joblib", "sweep.trials=4", "sweep.jobs=2", "seed=1",
        "data.patch_size=32,33", "trainer.max_steps=1", "logger=none",
    )  # fmt: skip
    record = json.loads((outcome.folder / "runs/sweeps/denoise/sweep.json").read_text())
    states = {t["params"]["data.patch_size"]: t["state"] for t in record["trials"]}
    assert len(record["trials"]) == 4
    assert states == {"32": "complete", "33": "failed"}


def test_slurm_jobs_are_given_a_gpu():
    launcher = compose("launch=slurm", return_hydra_config=True).hydra.launcher
    assert launcher.gpus_per_node == 1 and launcher.timeout_min == 1440
    assert launcher._target_.endswith("SlurmLauncher")


def test_a_launcher_that_is_not_installed_is_named():
    error = Exception("Could not find 'hydra/launcher/ray'\n\nAvailable options:\n\tbasic")
    assert explain(error) == (
        "'ray' needs a package that is not installed: pip install 'mprnet_lit[ray]'"
    )
