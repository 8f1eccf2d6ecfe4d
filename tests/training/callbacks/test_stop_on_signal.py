"""Requeuing of a training after a signal."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import ForkedCommand, quick
from tests.warm import warm_python

from mprnet_lit.__main__ import main
from mprnet_lit.training.callbacks.stop_on_signal import StopOnSignal, Stopped, start_again
from mprnet_lit.training.module import RestorationModule

MODULE = "mprnet_lit.training.callbacks.stop_on_signal"
from mprnet_lit.utils import signals

SCONTROL = """#!{python}
import sys
with open("{calls}", "a") as file:
    print(*sys.argv[1:], file=file)
if sys.argv[1] == "show":
    print("JobId=4711 JobState={state} Reason=None Requeue=1 Restarts=0")
elif "{state}" == "refused":
    sys.exit("Requested operation is presently disabled")
"""


def fake_scontrol(
    folder: Path, monkeypatch: pytest.MonkeyPatch, state: str = "RUNNING"
) -> Callable[..., Any]:
    """Add a ``scontrol`` that records its calls to PATH, and return a function that reads them."""
    tools, calls = folder / "tools", folder / "scontrol.calls"
    tools.mkdir()
    script = tools / "scontrol"
    script.write_text(SCONTROL.format(python=sys.executable, calls=calls, state=state))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return lambda: calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLURM_", "SUBMITIT_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_first_process_asks_slurm_to_requeue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: Any
) -> None:
    calls = fake_scontrol(tmp_path, monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    for rank in range(2):
        start_again(number, requeue=rank == 0)
    assert calls() == ["show job 4711", "requeue 4711"]


def test_single_array_task_is_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_scontrol(tmp_path, monkeypatch)
    for name, value in {"JOB_ID": "4711", "ARRAY_JOB_ID": "4711", "ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    start_again(signal.SIGUSR1, requeue=True)
    assert calls()[-1] == "requeue 4711_2"


@pytest.mark.parametrize(
    ("env", "number", "requeue"),
    [
        ({}, signal.SIGUSR1, True),  # outside SLURM
        ({"SLURM_JOB_ID": "4711"}, signal.SIGUSR1, False),  # disabled
        ({"SLURM_JOB_ID": "4711"}, signal.SIGINT, True),  # Ctrl-C
        ({"SLURM_JOB_ID": "4711", "SUBMITIT_EXECUTOR": "slurm"}, signal.SIGUSR1, True),
        ({"SLURM_JOB_ID": "4711", "SUBMITIT_EXECUTOR": "slurm"}, signal.SIGTERM, True),
    ],
)
def test_requeue_skipped_outside_slurm_and_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, Any], number: Any, requeue: bool
) -> None:
    calls = fake_scontrol(tmp_path, monkeypatch)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    start_again(number, requeue=requeue)
    assert calls() == []


def test_canceled_job_is_not_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_scontrol(tmp_path, monkeypatch, state="COMPLETING")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    start_again(signal.SIGTERM, requeue=True)
    assert calls() == ["show job 4711"]


def test_failed_requeue_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    start_again(signal.SIGUSR1, requeue=True)
    assert "Can't requeue the job" in capsys.readouterr().err


def test_signal_of_submitit_is_raised_again_after_the_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    received = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: received.append(number))
    try:
        start_again(signal.SIGUSR2, requeue=True)
        start_again(signal.SIGTERM, requeue=True)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert received == [signal.SIGUSR2]


def test_forwarded_signal_is_ignored_and_later_signal_is_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun forwards signals that all processes of the group have already received."""
    stop = StopOnSignal(tmp_path)
    clock = iter([10.0, 10.2, 15.0])
    monkeypatch.setattr(f"{MODULE}.time.monotonic", lambda: next(clock))
    before = signal.getsignal(signal.SIGINT)
    try:
        stop._receive(signal.SIGINT, None)
        stop._receive(signal.SIGINT, None)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            stop._receive(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigusr1_outside_a_cluster_saves_without_requeue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_scontrol(tmp_path, monkeypatch)
    process = ForkedCommand(
        tmp_path, "trainer.limit_val_batches=1", "trainer.max_epochs=500", "logger=none"
    )
    try:
        wait_for(lambda: "\nepoch 1/" in process.printed()[0])
        process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGUSR1, output + errors
    assert "Stopped by SIGUSR1 and saved" in output
    assert list(tmp_path.glob("runs/**/last.ckpt"))
    assert calls() == []


class Job:
    """Job of submitit that repeats the command after a requeue."""

    def __init__(self, arguments: Any) -> None:
        self.arguments = arguments

    def __call__(self) -> None:
        sys.argv = ["mprnet_lit", *self.arguments]
        main()

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def test_submitit_requeues_by_itself_after_our_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    calls = fake_scontrol(tmp_path, monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=600)
    runs, waiting = tmp_path / "runs", tmp_path / "waiting"
    training_step = RestorationModule.training_step

    def wait_once(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.current_epoch == 1 and not waiting.exists():
            (stop,) = (c for c in self.trainer.callbacks if isinstance(c, StopOnSignal))
            waiting.touch()
            wait_for(lambda: stop.received)
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", wait_once)  # also in the forks
    options = ("trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
    settings = (
        "callbacks.stop_on_signal.requeue=true",
        "trainer.max_epochs=2",
        "resume=auto",
        "logger=none",
        f"paths.runs={runs}",
    )
    with warm_python():
        job = executor.submit(Job(quick([*options, *settings])))
    try:
        wait_for(waiting.exists)
        assert list(runs.glob("**/last.ckpt"))
        (task,) = psutil.Process(job._process.pid).children()
        task.send_signal(signal.SIGUSR2)  # SLURM sends it for submitit
        wait_for(job.done)
        output = job.stdout() or ""
        assert job.exception() is None, output
    finally:
        job.cancel(check=False)
    assert output.count("Stopped by SIGUSR2 and saved") == 1
    assert output.count("resuming after step") == 1
    assert "epoch 2/2" in output
    assert calls() == []


def wait_for(done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stopped_can_be_pickled() -> None:
    stopped = pickle.loads(pickle.dumps(Stopped(15, 143, True)))
    assert (stopped.number, stopped.code, stopped.requeue) == (15, 143, True)


def test_signal_during_the_preparation_of_a_job_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process of the sweep receives the signal too."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stop = StopOnSignal(tmp_path)
    with signals.forward_signals():
        signal.raise_signal(signal.SIGTERM)
        assert other.wait(timeout=10) == -signal.SIGTERM
        monkeypatch.setattr(
            "mprnet_lit.training.callbacks.stop_on_signal._signals", lambda: []
        )  # keeps the handlers of the tests
        stop.on_train_start(None, None)  # type: ignore[arg-type]
        assert stop.received == signal.SIGTERM
        with pytest.raises(SystemExit, match="143"):
            signals.exit_if_signaled()
    with signals.forward_signals():  # the next command
        assert signals.received_signal() == 0
