"""Machines without shared memory or writable folders."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from mprnet_lit.data import shared_memory as handover
from mprnet_lit.utils import temp_folder
from tests.cli.test_bad_input import error_message
from tests.conftest import Cli, quick
from tests.training.test_faults import TINY

OPTIONS = (*TINY, "trainer.max_steps=2", "logger=none")


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command with other mounted file systems."""

    def run(mounts: Any, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        script = f'{mounts} && cd {tmp_path} && exec "$@"'
        prefix = ["unshare", "--mount", "bash", "-c"]
        if os.geteuid() or subprocess.run([*prefix, mounts], capture_output=True).returncode:
            pytest.skip("needs the right to mount a file system")
        command = [sys.executable, "-m", "mprnet_lit", *quick(arguments)]
        environment = {k: v for k, v in os.environ.items() if k != "MPLCONFIGDIR"}
        done = subprocess.run(
            [*prefix, script, "bash", *command],
            env=environment | {"HOME": "/nonexistent", "TMPDIR": "/tmp"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def weights(folder: Path) -> Any:
    (path,) = folder.glob("**/last.ckpt")
    return torch.load(path, weights_only=True)["state_dict"]


def test_training_on_a_read_only_machine(
    machine: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """A read-only machine, first with 3 MB of shared memory and then without."""
    out = tmp_path / "out"
    out.mkdir()
    mounts = f"mount --bind {out} {out} && mount -t tmpfs -o size=3m none /dev/shm"
    mounts += " && mount -o remount,bind,ro /"
    options = (*OPTIONS, "data.num_workers=1", f"paths.runs={out}")
    done = machine(mounts, *options, "data.val_crop_size=256")
    assert "temporary files go to /dev/shm" in done.stderr
    assert "Warning: /dev/shm has " in done.stderr and "through pipes" in done.stderr
    assert weights(out)
    mounts += " && mount -o remount,ro /dev/shm"
    done = machine(mounts, *options, status=1)
    assert "Error: no folder for temporary files is writable (/tmp, " in done.stderr
    assert "set TMPDIR to a writable folder" in done.stderr


def test_all_batch_transfers_train_the_same_weights(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for name, workers, free in (("own", 0, None), ("pipe", 1, 300_000), ("none", 1, 0)):
        with monkeypatch.context() as patch:
            if free is not None:
                patch.setattr(handover, "_free", lambda folder, free=free: free)
            outcome = cli(*OPTIONS, f"data.num_workers={workers}", f"paths.runs={name}")
        assert ("pipes" in outcome.errors) == (name == "pipe")
        assert ("can't start DataLoader workers" in outcome.errors) == (name == "none")
        found[name] = weights(tmp_path / name)
    for name in ("pipe", "none"):
        assert all(torch.equal(found[name][k], v) for k, v in found["own"].items())


def test_shared_memory_exhausted_during_training_is_reported(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is")

    monkeypatch.setattr("mprnet_lit.training.module.RestorationModule.training_step", step)
    message = error_message(cli(*OPTIONS, status=1))
    assert "--shm-size" in message and "data.num_workers=0" in message


def test_missing_temporary_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise FileNotFoundError(2, f"No usable temporary directory found in {['/tmp', '/a b']}")

    monkeypatch.delenv("TMPDIR", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "gettempdir", full)
        temp_folder.ensure_temp_folder(tmp_path)
        assert "TMPDIR" not in os.environ and capsys.readouterr().err == ""
        patch.setattr(tempfile, "gettempdir", lambda: os.environ.get("TMPDIR") or full())
        temp_folder.ensure_temp_folder(tmp_path)
        assert os.environ.pop("TMPDIR") == str(tmp_path)
    said = capsys.readouterr().err
    assert "no folder for temporary files is writable (/tmp, /a b)" in said
    assert f"temporary files go to {tmp_path}" in said
    assert temp_folder.temp_folder_problem(FileNotFoundError(2, "else")) is None
