"""Processes of mode=restore on this machine: one for each device."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import training_device


@dataclass(frozen=True)
class Process:
    """Place of this process among those that one command or launcher started on this machine.

    Attributes:
        rank: number of the process, from 0. The first process prints the settings and the summary.
        count: number of the processes.
        started: start of the command or of the launcher, in seconds since the epoch.
    """

    rank: int = 0
    count: int = 1
    started: float = 0

    def device(self, name: str) -> str:
        """Return the device of this process; ``name`` is the value of ``inference.device``.

        Raises:
            UserError: several processes would use the same accelerator.
        """
        if self.count == 1:
            return name
        kind = training_device("auto").type if name == "auto" else name
        if kind == "cpu":
            return kind
        found = torch.accelerator.device_count()
        if ":" in kind:
            raise UserError(
                f"inference.device={name} is one device, but {self.count} processes were started: "
                f"set inference.device={kind.partition(':')[0]}"
            )
        return f"{kind}:{self.rank % max(found, 1)}"


def this_process() -> Process:
    """Return the place of this process, which torchrun or ``srun`` may have started."""
    env = os.environ
    if "LOCAL_RANK" in env:
        count = int(env.get("LOCAL_WORLD_SIZE") or 1)
        return Process(int(env["LOCAL_RANK"]), count, _launch_time())
    # Such as "4(x2),3"; a batch script without srun has SLURM_NTASKS, but not this variable.
    tasks = re.findall(r"(\d+)(?:\(x\d+\))?", env.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if (count := max(map(int, tasks), default=1)) > 1:
        return Process(int(env.get("SLURM_LOCALID") or 0), count, _launch_time())
    return Process(started=time.time())


def device_count(config: DictConfig, process: Process) -> int:
    """Return the number of processes that this process must start, including itself.

    Raises:
        UserError: ``restore.devices`` is larger than the number of devices, or a launcher started a
            process for each device.
    """
    wanted, device = config.restore.devices, str(config.inference.device)
    kind = (training_device("auto").type if device == "auto" else device).partition(":")[0]
    found = 1 if kind == "cpu" else torch.accelerator.device_count()
    count = found if wanted == "auto" else int(wanted)
    if process.count > 1:
        if wanted not in (1, "auto"):
            raise UserError(
                f"restore.devices={wanted}, but the launcher started {process.count} processes on "
                "this machine: remove restore.devices"
            )
        return 1
    if kind != "cpu" and count > max(found, 1):  # the restorer checks a single device
        raise UserError(
            f"restore.devices={wanted}, but this machine has {found} of {kind}: "
            f"set restore.devices={found}"
        )
    return count


@contextmanager
def other_devices(config: DictConfig, first: Process, console: Console) -> Iterator[None]:
    """Run ``restore_worker`` in further processes, one for each other device; print their lines.

    At the end of the block, no file may be left. An exception in the block stops the processes.
    """
    settings = OmegaConf.to_container(config, resolve=True)
    values = {"config": settings, "count": first.count, "started": first.started}
    running: list[subprocess.Popen[str]] = []
    printing: list[threading.Thread] = []
    try:
        for rank in range(1, first.count):
            process = subprocess.Popen(
                [sys.executable, "-m", "mprnet_lit.cli.restore_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            )
            running.append(process)
            assert process.stdin is not None
            with process.stdin:
                json.dump(values | {"rank": rank}, process.stdin)
            printing.append(threading.Thread(target=_print_lines, args=(process, console)))
            printing[-1].start()
        yield
        ended = [process.poll() for process in running]
        for process in running:  # no file is left, also for a process that still starts
            process.kill()
    except BaseException:
        for process in running:
            process.terminate()
        raise
    finally:
        for process, thread in zip(running, printing, strict=False):
            process.wait()
            thread.join()
    for rank, status in enumerate(ended, start=1):
        if status:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            print_line(
                console,
                f"Warning: the process of device {rank} ended with {how}; the other processes "
                "restored its files",
            )


def _print_lines(process: subprocess.Popen[str], console: Console) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            print_line(console, line.rstrip("\n"))


def _launch_time() -> float:
    """Return the start of the launcher, which is the parent of this process."""
    try:
        return psutil.Process(os.getppid()).create_time()
    except psutil.Error:
        return time.time()
