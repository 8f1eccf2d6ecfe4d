"""Stopping a training by a signal: save first, on all devices at the same step; then requeue."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from mprnet_lit.utils import signals

_ECHO = 3.0
"""Seconds in which a second signal is the same one, passed on by torchrun or sent to a group."""


class Stopped(SystemExit):
    """A training that a signal stopped, and that has saved.

    Args:
        number: of the signal.
        status: to exit with.
    """

    def __init__(self, number: int, status: int) -> None:
        super().__init__(status)
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        """Have a worker process hand it to the one that waits for it."""
        return type(self), (self.number, self.code)


class StopOnSignal(Callback):
    """On SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C, saves after the batch and exits with 128 + the signal.

    The processes of a training agree on the step: whichever of them the signal reached, none is
    left waiting for the others. A second SIGTERM or Ctrl-C is not held back.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.received = 0
        self.since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals; Lightning gives them back when the training ends.

        Lightning's own handler communicates in the middle of whatever the process is doing.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _signals():
                signal.signal(number, self._receive)
        self.received = signals.received()  # while the job was being made

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop, if a signal has reached any of the processes.

        The last batch of an epoch is followed by its validation first.

        Raises:
            Stopped: saved.
        """
        number = self._agreed(trainer)
        if not number or trainer.is_last_batch:
            return
        trainer.save_checkpoint(self.checkpoint)
        status = 128 + number
        if trainer.is_global_zero:
            name = signal.Signals(number).name
            print(f"Stopped by {name} and saved {self.checkpoint}: add resume=auto to go on")
        elif not TorchElasticEnvironment.detect():
            # The first process speaks for all: another status would have srun or Lightning kill it.
            # torchrun would take 0 for the end of the training, and wait for the other machines.
            status = 0
        raise Stopped(number, status)

    def _agreed(self, trainer: Trainer) -> int:
        """Return the signal that reached any of the processes; 0 for none."""
        if trainer.world_size == 1:
            return self.received
        received = torch.tensor(self.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _receive(self, number: int, _: Any) -> None:
        signals.leave_terminal()
        now = time.monotonic()
        if not self.received:
            self.received, self.since = number, now
        elif number in (signal.SIGTERM, signal.SIGINT) and now - self.since > _ECHO:
            own = signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler
            signal.signal(number, own)
            signal.raise_signal(number)


def start_again(number: int, requeue: bool, first: bool) -> None:
    """Have whoever scheduled this job start it again, after a training that a signal stopped.

    submitit does so itself. SLURM is asked to, unless Ctrl-C was pressed or the job is about to end
    in any case, as it is when it was cancelled, or when SLURM requeues it of its own accord.

    Args:
        number: of the signal.
        requeue: whether SLURM is to be asked.
        first: whether this is the first process of the training.
    """
    env = os.environ
    if "SUBMITIT_EXECUTOR" in env:
        if number == _submitits_signal():  # submitit has its handler back
            signal.raise_signal(number)
    elif requeue and first and number != signal.SIGINT and "SLURM_JOB_ID" in env:
        job = env["SLURM_JOB_ID"]
        if array := env.get("SLURM_ARRAY_JOB_ID"):  # of the last task, the id is the whole array's
            job = f"{array}_{env['SLURM_ARRAY_TASK_ID']}"
        try:
            if "JobState=RUNNING" in _scontrol("show", "job", job):
                _scontrol("requeue", job)
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or error
            print(f"Can't requeue the job: {reason}. Submit it again.", file=sys.stderr)


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _signals() -> list[int]:
    """Return the signals that stop a training."""
    found: list[int] = [signal.SIGTERM, signal.SIGINT, *signals.hangup()]
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        found.append(signal.SIGUSR1)
    if "SUBMITIT_EXECUTOR" in os.environ:
        found.append(_submitits_signal())
    return found


def _submitits_signal() -> int:
    """Return the signal at which submitit requeues."""
    return int(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])
