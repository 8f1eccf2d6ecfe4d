"""Training on two nodes, simulated by torchrun agents or SLURM tasks in process groups."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests.conftest import quick
from tests.halting import halting_step
from tests.training.callbacks.test_stop_on_signal import fake_scontrol
from tests.warm import warm_python
from torch.distributed.elastic.rendezvous import dynamic_rendezvous

from mprnet_lit.training.module import RestorationModule

RUN = ("trainer.max_epochs=2", "trainer.limit_val_batches=1", "logger=csv")
STEPS = 5
"""Number of steps in an epoch."""


@pytest.fixture(scope="module", autouse=True)
def without_stacks() -> Iterator[None]:
    """Don't let torchrun read the source of pytest for each of its events, which is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_rendezvous, "get_method_name", lambda *_: "method")
        yield


class Node:
    """Simulated machine: a process with all its children."""

    def __init__(self, command: Sequence[str], folder: Path, name: str, **env: str) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("w") as out, self.err.open("w") as err, warm_python():
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=os.environ | {"COLUMNS": "200"} | env,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill all processes of the machine."""
        with suppress(psutil.NoSuchProcess):
            everything = psutil.Process(self.process.pid).children(recursive=True)
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            for process in everything:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def wait(self, seconds: int = 120) -> Any:
        return self.process.wait(timeout=seconds)

    @property
    def output(self) -> str:
        return self.out.read_text() + self.err.read_text()


@pytest.fixture
def start() -> Iterator[Callable[..., Node]]:
    """Start a node. Its remaining processes are killed at the end of the test."""
    nodes = []

    def run(*arguments: Any, **env: Any) -> Node:
        nodes.append(Node(*arguments, **env))
        return nodes[-1]

    yield run
    for node in nodes:
        node.kill()
        node.wait()


def free_port() -> Any:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def torchrun(start: Any, folder: Path, name: str, *arguments: str) -> list[Any]:
    """Start ``torchrun --nnodes=2`` twice."""
    rendezvous = (
        "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=both",
        "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "-m", "mprnet_lit",
    )  # fmt: skip
    training = quick(["trainer=torchrun", *RUN, *arguments])
    return [start([*rendezvous, *training], folder, f"{name}{k}") for k in range(2)]


@pytest.fixture
def halt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes wait in the second epoch, for a signal or for the file ``go``."""
    step = halting_step(STEPS + 2, tmp_path)
    monkeypatch.setattr(RestorationModule, "training_step", step)  # also in the forks


def wait_until_mid_epoch(folder: Path, nodes: Any) -> None:
    deadline = time.monotonic() + 100
    while len(list(folder.glob("halted*"))) < len(nodes):
        assert time.monotonic() < deadline, [node.output for node in nodes]
        assert all(n.process.poll() is None for n in nodes), [node.output for node in nodes]
        time.sleep(0.01)


def checkpoint(folder: Path) -> Any:
    (path,) = folder.glob("runs/*/*/checkpoints/last.ckpt")  # all in one run folder
    return torch.load(path, weights_only=True)


def assert_same_state(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Check that weights and optimizer state are equal bit for bit."""
    assert first["global_step"] == second["global_step"]
    weights, others = first["state_dict"], second["state_dict"]
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    moments, others = (c["optimizer_states"][0]["state"] for c in (first, second))
    assert all(torch.equal(moments[k][m], others[k][m]) for k in moments for m in moments[k])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    nodes = torchrun(Node, folder, "whole")
    try:
        assert [node.wait() for node in nodes] == [0, 0], [node.output for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.output.count("on 2 x cpu") for node in nodes] in ([1, 0], [0, 1])
    return folder


def test_two_nodes_train_as_one_and_write_one_folder(
    uninterrupted: Path, tmp_path: Path, start: Callable[..., Node]
) -> None:
    assert [path.name for path in uninterrupted.glob("runs/denoise/*")] == ["torchrun-both"]
    alone = start(["-m", "mprnet_lit", *quick(RUN)], tmp_path, "one")
    assert alone.wait() == 0, alone.output
    one, two = checkpoint(tmp_path), checkpoint(uninterrupted)
    assert one["global_step"] == two["global_step"] == 2 * STEPS
    for name, expected in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], expected, rtol=0, atol=2e-5)


def test_killed_node_stops_the_other_and_both_resume_from_the_checkpoint(
    uninterrupted: Path, halt: None, tmp_path: Path, start: Callable[..., Node]
) -> None:
    nodes = torchrun(start, tmp_path, "killed", "resume=auto")
    wait_until_mid_epoch(tmp_path, nodes)
    nodes[0].kill()
    (tmp_path / "go").touch()
    killed = time.monotonic()
    assert nodes[1].wait(60) not in (0, None)
    assert time.monotonic() - killed < 30
    assert nodes[1].output.count("Error: another process of this run ended") == 1
    assert "mprnet_lit/cli/train.py" not in nodes[1].output  # no traceback of this package
    saved = checkpoint(tmp_path)["global_step"]
    assert saved == STEPS

    nodes = torchrun(start, tmp_path, "again", "resume=auto")
    assert [node.wait() for node in nodes] == [0, 0], [node.output for node in nodes]
    assert sum(node.output.count(f"resuming after step {saved}") for node in nodes) == 1
    assert_same_state(checkpoint(tmp_path), checkpoint(uninterrupted))


def srun(start: Any, folder: Path, name: str, **env: Any) -> list[Any]:
    """Start a SLURM task on each of two nodes."""
    job = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NNODES": "2",
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    command = ["-m", "mprnet_lit", *quick(["trainer=slurm", "resume=auto", *RUN])]
    return [
        start(command, folder, f"{name}{k}", **job, SLURM_PROCID=str(k), SLURM_NODEID=str(k), **env)
        for k in range(2)
    ]


def test_slurm_signal_saves_and_requeues_once_and_the_job_resumes(
    uninterrupted: Path,
    halt: None,
    tmp_path: Path,
    start: Callable[..., Node],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = fake_scontrol(tmp_path, monkeypatch)
    tasks = srun(start, tmp_path, "first")
    wait_until_mid_epoch(tmp_path, tasks)
    for task in tasks:  # --signal=USR1@90
        task.process.send_signal(signal.SIGUSR1)
    assert [task.wait(60) for task in tasks] == [128 + signal.SIGUSR1, 0], tasks[0].output
    assert calls() == ["show job 4711", "requeue 4711"]
    assert tasks[0].output.count("Stopped by SIGUSR1 and saved") == 1
    assert not any("Traceback" in task.output for task in tasks)
    saved = checkpoint(tmp_path)["global_step"]
    assert STEPS < saved < 2 * STEPS

    (tmp_path / "go").touch()
    tasks = srun(start, tmp_path, "second", SLURM_RESTART_COUNT="1")
    assert [task.wait() for task in tasks] == [0, 0], [task.output for task in tasks]
    assert f"resuming after step {saved}" in tasks[0].output
    assert len(calls()) == 2
    assert_same_state(checkpoint(tmp_path), checkpoint(uninterrupted))


def test_machines_without_a_shared_disk_are_refused(
    tmp_path: Path, start: Callable[..., Node]
) -> None:
    """The run folder does not exist on the second machine."""
    env = {"MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
    env |= {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    env |= {"TORCHELASTIC_RUN_ID": "apart"}
    nodes = []
    for k in range(2):
        folder = tmp_path / str(k)
        folder.mkdir()
        command = ["-m", "mprnet_lit", *quick(["trainer=torchrun", *RUN])]
        nodes.append(start(command, folder, "node", **env, RANK=str(k), GROUP_RANK=str(k)))
    assert [node.wait() for node in nodes] == [1, 1]
    assert "all machines need the same command and a shared disk" in nodes[1].output
    assert not list(Path(tmp_path).glob("**/last.ckpt"))
