"""Callback that stops training on a signal, and function that requeues the job."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Checkpoint

from mprnet_lit.runs.folder import LAST
from mprnet_lit.utils import signals
from mprnet_lit.utils.transfer import HostCopy, largest, to_device

_ECHO = 3.0
"""Seconds during which a repeated signal is ignored: torchrun and process groups send copies."""


class Stopped(SystemExit):
    """Exit after a signal and a saved checkpoint.

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
        """Support pickling, because worker processes of a sweep return the exception."""
        return type(self), (self.number, self.code, self.requeue)


class StopOnSignal(Checkpoint):
    """Saves a checkpoint after the current batch on SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C, and exits.

    On Windows, the signals are SIGBREAK (Ctrl-Break or a closed console) and Ctrl-C. The exit
    status is 128 plus the signal number. All processes stop at the same step, even if only one of
    them received the signal. A second SIGTERM or Ctrl-C stops training immediately. This callback
    is a ``Checkpoint``, so that Lightning runs it after all callbacks that change weights.

    Args:
        folder: directory of the run.
        requeue: whether to ask SLURM to requeue the job.
    """

    def __init__(self, folder: str | Path, requeue: bool = False) -> None:
        self.checkpoint = Path(folder) / LAST
        self.requeue = requeue
        self.received = 0
        self.since = 0.0
        self._reduced: HostCopy | None = None
        self._pending = 0
        """Signal that was received before or during the only batch of an epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers, which Lightning removes when training ends.

        The handlers replace that of Lightning, which may start a collective operation within
        another one.
        """
        if threading.current_thread() is threading.main_thread():
            for number in _signals():
                signal.signal(number, self._receive)
        self.received = signals.received_signal()  # during the setup
        self._reduced = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if any process has received a signal.

        The check is skipped after the last batch of an epoch, so that validation runs first.

        Raises:
            Stopped: a process received a signal, and the checkpoint is saved.
        """
        number = self._agreed(trainer)
        self._pending = number if batch_idx == 0 and trainer.is_last_batch else 0
        if number and not trainer.is_last_batch:
            self._stop(trainer, number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch of a single batch, unless the training is complete.

        Raises:
            Stopped: a process received a signal, and the checkpoint is saved.
        """
        if self._pending and not trainer.fit_loop.done:
            self._stop(trainer, self._pending)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record a signal that was received during the last validation, so that a sweep stops."""
        if self.received:
            signals.record_late_signal(self.received)

    def _stop(self, trainer: Trainer, number: int) -> NoReturn:
        """Save a checkpoint and end this process."""
        trainer.save_checkpoint(self.checkpoint)
        status = 128 + number
        if trainer.is_global_zero:
            name = signal.Signals(number).name
            print(f"Stopped by {name} and saved {self.checkpoint}: add resume=auto to resume")
        elif not TorchElasticEnvironment.detect():
            # The first process sets the exit status of the job. srun or Lightning would kill the
            # first process if this process failed. torchrun would keep waiting after a status of 0.
            status = 0
        raise Stopped(number, status, self.requeue and trainer.is_global_zero)

    def _agreed(self, trainer: Trainer) -> int:
        """Return the signal that any process has received, or 0.

        With several processes, the result is that of the previous batch, so that no process waits
        for its device.
        """
        if trainer.world_size == 1:
            return self.received
        received = to_device(torch.tensor(self.received), trainer.strategy.root_device)
        reduced = HostCopy(largest(received))
        previous, self._reduced = self._reduced, reduced
        return 0 if previous is None else int(previous.tolist())

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
    """Requeue this job after a signal has stopped it.

    submitit requeues its own jobs. Other SLURM jobs are requeued unless the signal was Ctrl-C, or
    the job no longer runs (canceled, or already requeued by SLURM).

    Args:
        number: number of the signal.
        requeue: whether to requeue a SLURM job.
    """
    env = os.environ
    if "SUBMITIT_EXECUTOR" in env:
        if number == _submitits_signal():  # Lightning has restored the handler of submitit
            signal.raise_signal(number)
    elif requeue and number != signal.SIGINT and "SLURM_JOB_ID" in env:
        job = env["SLURM_JOB_ID"]
        if array := env.get("SLURM_ARRAY_JOB_ID"):  # the job ID of the last task is the array ID
            job = f"{array}_{env['SLURM_ARRAY_TASK_ID']}"
        try:
            if "JobState=RUNNING" in _scontrol("show", "job", job):
                _scontrol("requeue", job)
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or error
            print(f"Can't requeue the job: {reason}. Submit it again.", file=sys.stderr)


def _scontrol(*arguments: str) -> str:
    options: Any = {"capture_output": True, "text": True, "timeout": 60, "check": True}
    return str(subprocess.run(["scontrol", *arguments], **options).stdout)


def _signals() -> list[int]:
    """Return the signals that stop training."""
    found: list[int] = [signal.SIGTERM, signal.SIGINT, *signals.hangup_signals()]
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        found.append(signal.SIGUSR1)
    if "SUBMITIT_EXECUTOR" in os.environ:
        found.append(_submitits_signal())
    return found


def _submitits_signal() -> int:
    """Return the signal on which submitit requeues."""
    return int(signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"])
