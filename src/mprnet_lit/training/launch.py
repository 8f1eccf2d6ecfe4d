"""Sweep jobs in separate processes."""

import signal
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Trainer
from omegaconf import DictConfig

from mprnet_lit.config.messages import quoted
from mprnet_lit.runs.settings import group, overrides_as_written
from mprnet_lit.utils import signals
from mprnet_lit.utils.compat import starts_subprocesses
from mprnet_lit.utils.errors import UserError

_SIGNALS = ("SIGBREAK", "SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1")
_STOPPED = {128 + s.value for s in signal.Signals if s.name in _SIGNALS}
"""Exit statuses of jobs that a signal stopped. Windows lacks some of the signals."""
_CONTROL_C_EXIT = 0xC000013A
"""Exit status on Windows of a process that Ctrl-C killed."""


def needs_own_command(trainer: Trainer) -> bool:
    """Return whether a sweep job must run as a separate command.

    Lightning starts the other processes of a job with the command line of the first process. In a
    sweep, this would be the command line of the whole sweep.
    """
    return HydraConfig.get().mode == RunMode.MULTIRUN and starts_subprocesses(trainer)


def run_job(config: DictConfig, folder: Path) -> None:
    """Run the sweep job of a configuration as a separate command.

    Raises:
        SystemExit: a signal stopped the job. The sweep ends too.
        UserError: the job failed.
    """
    command = [sys.executable, "-m", "mprnet_lit"]
    for source in HydraConfig.get().runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    command += [
        *overrides_as_written(),
        f"tracking.group={quoted(group(config))}",
        f"hydra.run.dir={quoted(str(folder))}",
        "hydra.mode=RUN",
    ]
    status = subprocess.run(command, check=False).returncode
    if status < 0:  # killed before the job installed its handlers
        status = 128 - status
    elif status == _CONTROL_C_EXIT:
        status = 128 + signal.SIGINT
    if status in _STOPPED:
        raise SystemExit(status)
    signals.exit_if_signaled()
    if status:
        raise UserError(f"the job failed with exit status {status}: see its message above")
