"""Sweep jobs in separate processes."""

import signal
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mprnet_lit.config.messages import quoted
from mprnet_lit.runs.settings import group, overrides_as_written
from mprnet_lit.training.trainer import build_trainer
from mprnet_lit.utils import signals
from mprnet_lit.utils.compat import starts_subprocesses
from mprnet_lit.utils.errors import UserError

_STOPPED = {
    128 + getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1")
    if hasattr(signal, name)  # Windows lacks some
}
"""Exit statuses of jobs that were stopped by a signal."""


def needs_own_command(config: DictConfig) -> bool:
    """Return whether a sweep job must run as a separate command.

    Lightning starts the other processes of a job with the command line of the first process. In a
    sweep, this would be the command line of the whole sweep.
    """
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    return in_sweep and starts_subprocesses(build_trainer(config))


def run_job(config: DictConfig, folder: Path) -> None:
    """Run a sweep job as a separate command.

    Args:
        config: configuration of the job.
        folder: directory of the run.

    Raises:
        SystemExit: a signal stopped the job. The sweep ends too.
        UserError: the job failed.
    """
    command = [sys.executable, "-m", "mprnet_lit"]
    for source in HydraConfig.get().runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    command += [*overrides_as_written(), f"tracking.group={quoted(group(config))}"]
    command += [f"hydra.run.dir={quoted(str(folder))}", "hydra.mode=RUN"]
    status = subprocess.run(command, check=False).returncode
    if status < 0:  # killed before the job installed its handlers
        status = 128 - status
    if status in _STOPPED:
        raise SystemExit(status)
    signals.exit_if_signaled()
    if status:
        raise UserError(f"the job failed with exit status {status}: see its message above")
