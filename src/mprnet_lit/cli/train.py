"""``mode=train``: fit a network and return the best validation PSNR."""

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.strategies.launchers import (
    _MultiProcessingLauncher,
    _SubprocessScriptLauncher,
)
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.config.messages import instantiate, quoted
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.models import MPRNet
from mprnet_lit.runs import folder as runs
from mprnet_lit.runs.folder import SUMMARY
from mprnet_lit.runs.provenance import save_provenance
from mprnet_lit.runs.settings import overrides_as_written, recorded
from mprnet_lit.sweeps.objectives import measure
from mprnet_lit.training import loggers as dashboards
from mprnet_lit.training import memory
from mprnet_lit.training import resume as resuming
from mprnet_lit.training import trainer as nodes
from mprnet_lit.training.build import build_model, build_module
from mprnet_lit.training.callbacks.skip_nonfinite import BadSteps
from mprnet_lit.training.callbacks.stop_on_signal import StopOnSignal, Stopped, start_again
from mprnet_lit.training.checkpoint_states import CheckpointStates
from mprnet_lit.training.checkpoints import AtomicCheckpointIO, read_checkpoint
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils import signals
from mprnet_lit.utils.atomic import write_whole
from mprnet_lit.utils.console import quieten
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory
from mprnet_lit.weights import Info
from mprnet_lit.weights.training_config import training_settings

_STOPPED = {
    128 + getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1")
    if hasattr(signal, name)  # not all are there on Windows
}
"""Exit statuses of jobs that a signal stopped."""


def run(config: DictConfig) -> float | list[float] | None:
    """Train as configured.

    Returns:
        the best validation PSNR in dB, or in a sweep of Optuna the values of its objectives;
        ``None`` without validation.

    Raises:
        UserError: a setting can't be used, or training can't continue.
    """
    quieten()
    folder = Path(config.paths.run).resolve()
    checkpoint = resuming.find_checkpoint(config, folder)
    attempt = config
    if config.trainer.auto_batch and checkpoint is not None:
        attempt = memory.as_before(config, read_checkpoint(checkpoint)["mprnet_lit"]["config"])
    while True:
        writer = AtomicCheckpointIO((folder / runs.LAST).parent)
        try:
            return _train(attempt, config, folder, checkpoint, writer)
        except memory.MemoryTooSmallError as error:
            attempt = memory.shared_further(attempt, error)
        memory.release()  # what the error held
        if folder / runs.LAST in writer.written:
            checkpoint = folder / runs.LAST


def _train(
    config: DictConfig,
    asked: DictConfig,
    folder: Path,
    checkpoint: Path | None,
    writer: AtomicCheckpointIO,
) -> float | list[float] | None:
    """Train once.

    Args:
        config: configuration of this attempt.
        asked: configuration of the command, by which ``resume=auto`` finds the run.
        folder: directory of the run.
        checkpoint: file to resume from; ``None`` for a new run.
        writer: object that writes the checkpoints.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    peers = nodes.Peers(folder, checkpoint)
    batches = memory.Batches()
    states = CheckpointStates(writer.folder, checkpoint)
    trainer = build_trainer(config, folder, [states, peers, batches], writer)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    if _starts_processes(trainer) and HydraConfig.get().mode == RunMode.MULTIRUN:
        return _run_alone(config, folder)

    start = build_model(config)
    model = start.model
    resumed = resuming.read(config, checkpoint, model.size)
    if trainer.is_global_zero:
        resuming.announce(config, folder, resumed)
    if resumed is not None and resumed.is_complete:
        if trainer.is_global_zero and not (folder / runs.OBJECTIVES).is_file():
            _measure_objectives(config, folder, model)
        return _outcome(config, folder)
    data: RestorationDataModule = instantiate(config.data)
    if resumed is not None:
        data.setup()
        data.load_state_dict(resumed.data)
    module = build_module(config, model)
    module.info = Info(
        task=config.task.name,
        crop=data.patch_size,
        license=start.info.license,  # of the weights that these are made of
        config=training_settings(recorded(config, numbers=True)),
    )
    try:
        with ExitStack() as stack:
            if trainer.is_global_zero:
                stack.enter_context(runs.held(folder))
                runs.record(asked, folder, checkpoint)
                save_provenance(config, folder)
            if not isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
                dashboards.contact(trainer.loggers, config)
            _fit(trainer, module, data, checkpoint, states, peers, batches)
    except Stopped as stop:
        start_again(stop.number, config.trainer.requeue, first=trainer.is_global_zero)
        raise
    if trainer.is_global_zero:
        _measure_objectives(config, folder, model)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StopOnSignal) and callback.received:
                signals.end_sweep(callback.received)  # it came in the last validation
    return _outcome(config, folder)


def _fit(
    trainer: Trainer,
    module: RestorationModule,
    data: RestorationDataModule,
    checkpoint: Path | None,
    states: CheckpointStates,
    peers: nodes.Peers,
    batches: memory.Batches,
) -> None:
    """Train, explain an error, and close the loggers in any case."""
    ended = False
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        ended = True
    except Exception as error:
        if peers.lost:  # and said so
            runs.note_failure(peers.folder, peers.lost, replace=False)
            raise SystemExit(1) from error
        if memory.is_out_of_memory(error):
            raise memory.explained(error, trainer, data, batches.training) from error
        if "killed by signal: Bus error" in str(error) or "shared memory(shm)" in str(error):
            raise UserError(
                "a data worker ran out of shared memory (/dev/shm): give a container more (docker "
                "run --shm-size=2g) or set data.num_workers=0, then add resume=auto to resume from "
                f"the last checkpoint in {peers.folder}"
            ) from error
        if "DataLoader worker (pid" in str(error):
            raise UserError(
                "a DataLoader worker died unexpectedly (possibly out of memory): set a smaller "
                "data.num_workers or data.cache_gb, then add resume=auto to resume from the last "
                f"checkpoint in {peers.folder} (the loader's own words: "
                f"{str(error).partition('. ')[0]})"
            ) from error
        if states.is_restoring(trainer) and not isinstance(error, UserError | OSError):
            raise UserError(
                f"{checkpoint} can't be resumed: it does not fit this configuration, or it is "
                f"damaged ({_first_line(error)}); to start from its weights use "
                f"weights={checkpoint} and no resume"
            ) from error
        raise
    finally:
        dashboards.close(failed=not ended)


def build_trainer(
    config: DictConfig, folder: Path, own: list[Callback], writer: AtomicCheckpointIO
) -> Trainer:
    """Return the trainer with its loggers and callbacks: first ``own``, then those configured."""
    callbacks = own + [instantiate(c) for c in config.callbacks.values()]
    callbacks.append(StopOnSignal(folder / runs.LAST))  # after whatever else a batch brings
    loggers = dashboards.make_dashboards(config)
    if loggers:
        callbacks.append(dashboards.Dashboards(config, folder))
    callbacks.append(BadSteps(config.trainer.max_bad_steps, folder))
    every, epochs = config.trainer.check_val_every_n_epoch, config.trainer.max_epochs
    if epochs > 0:
        every = min(every, epochs)  # a training of fewer epochs is validated at its end
    return nodes.build_trainer(
        config.trainer,
        [writer],
        callbacks=callbacks,
        logger=loggers,
        check_val_every_n_epoch=every,
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _starts_processes(trainer: Trainer) -> bool:
    launcher = trainer.strategy.launcher
    return (
        isinstance(launcher, _SubprocessScriptLauncher)
        and not launcher.cluster_environment.creates_processes_externally
    )


def _run_alone(config: DictConfig, folder: Path) -> float | list[float] | None:
    """Run one job of a multirun as a command of its own.

    Lightning starts the other processes of a job with the command line of this one, and here that
    is the whole sweep's.
    """
    hydra = HydraConfig.get()
    command = [sys.executable, "-m", "mprnet_lit"]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    command += [*overrides_as_written(), f"logger.group={quoted(dashboards.group(config))}"]
    command += [f"hydra.run.dir={quoted(str(folder))}", "hydra.mode=RUN"]
    status = subprocess.run(command, check=False).returncode
    if status < 0:  # killed before it took the signals over
        status = 128 - status
    if status in _STOPPED:  # and so is the sweep
        raise SystemExit(status)
    signals.end_if_received()
    if status:
        raise UserError(f"the job failed with exit status {status}: its message stands above")
    return _outcome(config, folder)


def _measure_objectives(config: DictConfig, folder: Path, model: MPRNet) -> None:
    """Write what a sweep of Optuna optimises; also the first process's of a job with several."""
    summary = folder / SUMMARY
    if OmegaConf.select(config, "sweep.objectives") and summary.is_file():
        values = measure(config.sweep.objectives, json.loads(summary.read_text()), model)
        write_whole(folder / runs.OBJECTIVES, (json.dumps(values) + "\n").encode())


def _outcome(config: DictConfig, folder: Path) -> float | list[float] | None:
    searched = OmegaConf.select(config, "sweep.objectives")
    path = folder / (runs.OBJECTIVES if searched else SUMMARY)
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    return list(values.values()) if searched else float(values["psnr"])
