"""Builder of the trainer from a configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.runs.folder import LAST
from mprnet_lit.training.callbacks.peer_check import PeerCheck
from mprnet_lit.training.checkpoints import AtomicCheckpointIO
from mprnet_lit.training.sharding import ShardedStrategy
from mprnet_lit.utils.compat import set_process_group_timeout
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import keep_freed_memory, training_device


def build_trainer(
    config: DictConfig,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    **options: Any,
) -> Trainer:
    """Return the configured trainer.

    Args:
        config: configuration of the command.
        callbacks: callbacks of the trainer.
        loggers: loggers of the trainer.
        options: arguments of the trainer that override the configuration.

    Raises:
        UserError: a configured device is missing, or Lightning rejects a setting.
    """
    settings = config.trainer
    _check_devices(settings)
    plugins: list[Any] = [AtomicCheckpointIO(Path(config.paths.run).resolve() / LAST.parent)]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # StopOnSignal requeues
    # By default, Lightning adds its own checkpoint and progress bar callbacks.
    options = {
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        **{key: settings[key] for key in settings if str(key).startswith("enable_")},
        **options,
    }
    if settings.strategy == "fsdp":
        # Sharded weights that are gathered in inference mode can't be trained afterwards.
        options = {"strategy": ShardedStrategy(), "inference_mode": False} | options
    interval = settings.check_val_every_n_epoch
    if settings.max_epochs > 0:
        interval = min(interval, settings.max_epochs)  # validate a short run at its end
    try:
        trainer: Trainer = instantiate(
            settings,
            callbacks=list(callbacks),
            logger=list(loggers),
            plugins=plugins,
            check_val_every_n_epoch=interval,
            **options,
        )
    except InstantiationException as error:
        raise UserError(
            f"the settings under trainer can't be used: {error.__cause__ or error}"
        ) from error
    for callback in callbacks:
        if isinstance(callback, PeerCheck):  # the process group exists before the first hook
            set_process_group_timeout(trainer.strategy, callback.timeout)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def _check_devices(settings: DictConfig) -> None:
    """Raise UserError if a device is missing, or if the strategy needs a GPU."""
    accelerator, devices = str(settings.accelerator), str(settings.devices)
    found = training_device(accelerator)
    if accelerator in ("gpu", "cuda", "mps") and found.type not in ("cuda", "mps"):
        raise UserError(
            f"trainer.accelerator={accelerator} needs a GPU, and torch finds none on this machine: "
            "add trainer.accelerator=cpu, or for two processes on the CPU trainer=cpu "
            "trainer.strategy=ddp trainer.devices=2"
        )
    if found.type == "cpu" and str(settings.strategy).startswith("deepspeed"):
        raise UserError(
            f"trainer.strategy={settings.strategy} needs GPUs: use trainer.strategy=ddp on a CPU"
        )
    if found.type == "cpu" and devices != "auto" and not devices.isdecimal():
        raise UserError(
            f"trainer.devices={devices} must be a number of processes, 1 or more, on a CPU"
        )
    count = torch.cuda.device_count()
    if found.type == "cuda" and devices.isdecimal() and int(devices) > count:
        raise UserError(
            f"trainer.devices={devices} is more than the {count} GPUs of this machine: use "
            "trainer.devices=auto for all of them"
        )
