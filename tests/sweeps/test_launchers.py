"""Sweeps with joblib, Ray and submitit on this machine."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.config.test_config import compose
from tests.conftest import Cli, start_cli

from mprnet_lit.config.messages import explain
from mprnet_lit.utils.errors import install_hint

SMALL = ("trainer.limit_val_batches=1", "logger=none", "~callbacks.panels")
SHORT = ("trainer.max_steps=1", "data.num_workers=0", *SMALL)
GRID = ("-m", "optimizer.lr=1e-3,1e-4", "seed=0,1", *SHORT)
LOCAL = "hydra/launcher=submitit_local"
# One process, because each takes ten seconds to import torch.
RAY = ("+hydra.launcher.ray.init.num_cpus=1", "+hydra.launcher.ray.init.include_dashboard=false")


@pytest.mark.parametrize("launcher", ["launch=joblib", "launch=ray", LOCAL])
def test_grid_of_four_jobs_runs(shell: Cli, launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray runs its jobs at niceness 15, which takes minutes beside other tests.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    is_ray = launcher == "launch=ray"  # which starts its own processes
    outcome = shell(launcher, *GRID, *(RAY if is_ray else ()), warm=not is_ray)
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


def test_optuna_trials_run_in_parallel_and_one_may_fail(shell: Cli) -> None:
    outcome = shell(
        "sweep=optuna", "launch=joblib", "sweep.trials=4", "sweep.jobs=2", "seed=1",
        "data.patch_size=16,33", *SHORT,
    )  # fmt: skip
    record = json.loads((outcome.folder / "runs/sweeps/denoise/sweep.json").read_text())
    states = {t["params"]["data.patch_size"]: t["state"] for t in record["trials"]}
    assert len(record["trials"]) == 4
    assert states == {"16": "complete", "33": "failed"}


LONG = ("trainer.max_epochs=60", "data.crops_per_image=1", *SMALL)
TWO = {
    "joblib": ("sweep=optuna", "launch=joblib", "sweep.jobs=2", "sweep.trials=2", "seed=0,1"),
    "devices": ("-m", "seed=0,1", "trainer.devices=2"),
}


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[[str, int], subprocess.Popen[str]]]:
    """Start a sweep in a separate process group and wait until its jobs train."""
    started = []

    def start(kind: str, jobs: int) -> subprocess.Popen[str]:
        process = start_cli(tmp_path, *TWO[kind], *LONG, start_new_session=True)
        started.append(process)
        deadline = time.monotonic() + 90
        while len(list(tmp_path.glob("runs/**/last.ckpt"))) < jobs:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def alive(group: int) -> list[int]:
    """Return the processes of a group, except trackers of resources, which exit last."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            is_tracker = "resource_tracker" in " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                found += [] if is_tracker else [process.pid]
    return found


@pytest.mark.parametrize(
    ("kind", "jobs", "number", "whole_group"),
    [
        ("joblib", 2, signal.SIGTERM, False),
        ("joblib", 2, signal.SIGINT, True),  # like Ctrl-C in a terminal
        ("devices", 1, signal.SIGTERM, False),
        ("devices", 1, signal.SIGINT, True),
    ],
)
def test_stopped_sweep_leaves_no_process(
    sweep: Callable[[str, int], subprocess.Popen[str]],
    tmp_path: Path,
    kind: str,
    jobs: int,
    number: signal.Signals,
    whole_group: bool,
) -> None:
    process = sweep(kind, jobs)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output + errors
    assert f"Stopped by {number.name} and saved" in output
    assert "Traceback" not in errors
    assert alive(process.pid) == []


def test_killed_worker_fails_its_trial_and_the_sweep_continues(
    sweep: Callable[[str, int], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = sweep("joblib", 2)
    children = psutil.Process(process.pid).children()
    workers = [child for child in children if "tracker" not in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    _, errors = process.communicate(timeout=60)
    record = json.loads((tmp_path / "runs/sweeps/denoise/sweep.json").read_text())
    assert [t["state"] for t in record["trials"]] == ["failed", "failed"]
    assert all("the launcher failed" in t["error"] for t in record["trials"])
    assert process.returncode == 1 and "none of the 2 trials succeeded" in errors
    assert "Traceback" not in errors


def test_slurm_jobs_request_a_gpu() -> None:
    launcher = compose("launch=slurm", return_hydra_config=True).hydra.launcher
    assert launcher.gpus_per_node == 1 and launcher.timeout_min == 1440
    assert launcher._target_.endswith("SlurmLauncher")


def test_missing_launcher_is_named() -> None:
    error = Exception("Could not find 'hydra/launcher/ray'\n\nAvailable options:\n\tbasic")
    assert explain(error) == (f"'ray' needs a package that is not installed: {install_hint('ray')}")
