"""Stopping a training on a signal: save a checkpoint, then exit or requeue the job."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Checkpoint

from mprnet_lit.runs.folder import LAST
from mprnet_lit.utils import signals

_ECHO = 3.0
"""Seconds in which a second signal counts as a copy: torchrun and process groups send copies."""


class Stopped(SystemExit):
    """A signal stopped the training, which has saved a checkpoint.

    Args:
        number: number of the signal.
        status: exit status.
        requeue: whether this process asks SLURM to requeue the job.
    """

    def __init__(self, number: int, status: int, requeue: bool) -> None:
        super().__init__(status)
        self.number = number
        self.requeue = requeue

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling, as worker processes of a sweep return the exception."""
        return type(self), (self.number, self.code, self.requeue)


class StopOnSignal(Checkpoint):
    """Saves a checkpoint after the current batch on SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C, and exits.

    The exit status is 128 plus the number of the signal. All processes of a training stop at the
    same step, whichever of them the signal reached. A second SIGTERM or Ctrl-C takes effect at
    once. As a ``Checkpoint``, this callback runs after all callbacks that change weights.

    Args:
        folder: directory of the run.
        requeue: whether to ask SLURM to requeue the job.
    """

    def __init__(self, folder: str | Path, requeue: bool = False) -> None:
        self.checkpoint = Path(folder) / LAST
        self.requeue = requeue
        self.received = 0
        self.since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers, which Lightning removes when the training ends.

        They replace Lightning's own handler, which communicates with other processes at any moment.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _signals():
                signal.signal(number, self._receive)
        self.received = signals.received_signal()  # during the preparation of the training

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop if a signal has reached any of the processes.

        After the last batch of an epoch, the validation comes first.

        Raises:
            Stopped: the checkpoint is saved.
        """
        number = self._agreed(trainer)
        if not number or trainer.is_last_batch:
            return
        trainer.save_checkpoint(self.checkpoint)
        status = 128 + number
        if trainer.is_global_zero:
            name = signal.Signals(number).name
            print(f"Stopped by {name} and saved {self.checkpoint}: add resume=auto to resume")
        elif not TorchElasticEnvironment.detect():
            # The first process sets the status: with another one, srun or Lightning would kill it.
            # torchrun would take 0 for the end of the training, and wait for the other machines.
            status = 0
        raise Stopped(number, status, self.requeue and trainer.is_global_zero)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pass on a signal that came during the last validation, so that a sweep ends."""
        if self.received:
            signals.record_late_signal(self.received)

    def _agreed(self, trainer: Trainer) -> int:
        """Return the signal that reached any of the processes; 0 for none."""
        if trainer.world_size == 1:
            return self.received
        received = torch.tensor(self.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _receive(self, number: int, _: Any) -> None:
        signals.detach_from_terminal()
        now = time.monotonic()
        if not self.received:
            self.received, self.since = number, now
        elif number in (signal.SIGTERM, signal.SIGINT) and now - self.since > _ECHO:
            own = signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler
            signal.signal(number, own)
            signal.raise_signal(number)


def start_again(number: int, requeue: bool) -> None:
    """Have the scheduler start this job again after a signal has stopped it.

    submitit requeues by itself. SLURM is asked to requeue, except after Ctrl-C and if the job is
    about to end anyway: because it was canceled, or because SLURM is requeueing it already.

    Args:
        number: number of the signal.
        requeue: whether to ask SLURM.
    """
    env = os.environ
    if "SUBMITIT_EXECUTOR" in env:
        if number == _submitits_signal():  # the handler of submitit is installed again
            signal.raise_signal(number)
    elif requeue and number != signal.SIGINT and "SLURM_JOB_ID" in env:
        job = env["SLURM_JOB_ID"]
        if array := env.get("SLURM_ARRAY_JOB_ID"):  # the last task has the identifier of the array
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
    found: list[int] = [signal.SIGTERM, signal.SIGINT, *signals.hangup_signals()]
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        found.append(signal.SIGUSR1)
    if "SUBMITIT_EXECUTOR" in os.environ:
        found.append(_submitits_signal())
    return found


def _submitits_signal() -> int:
    """Return the signal on which submitit requeues."""
    return int(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])
