"""Trainings of several processes, on one machine or more: one run, and none left waiting."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from omegaconf import DictConfig, open_dict

from mprnet_lit.config.messages import instantiate
from mprnet_lit.runs.folder import HOW_IT_ENDS
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import training_device


def build_trainer(settings: DictConfig, plugins: list[Any], **options: Any) -> Trainer:
    """Return Lightning's trainer, which waits for a lost process no longer than it is told to.

    Args:
        settings: the configuration's ``trainer``.
        plugins: of the trainer.
        options: instead of what stands in the settings.

    Raises:
        UserError: this machine lacks the configured devices, or Lightning refuses a setting.
    """
    _check_devices(settings)
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Signals and requeueing are ours: see StopOnSignal.
        plugins = [*plugins, SLURMEnvironment(auto_requeue=False)]
    lightnings = settings.copy()
    with open_dict(lightnings):
        for key in HOW_IT_ENDS:
            lightnings.pop(key)
    try:
        trainer: Trainer = instantiate(lightnings, plugins=plugins, **options)
    except InstantiationException as error:
        raise UserError(
            f"the settings under trainer can't be used: {error.__cause__ or error}"
        ) from error
    if hasattr(trainer.strategy, "_timeout"):  # DDP's or FSDP's, before it opens connections
        trainer.strategy._timeout = timedelta(seconds=settings.peer_timeout)
    return trainer


def _check_devices(settings: DictConfig) -> None:
    """Check that this machine has the configured devices.

    Raises:
        UserError: a device is missing, or the strategy needs a GPU.
    """
    accelerator, devices, strategy = settings.accelerator, settings.devices, settings.strategy
    found = training_device(accelerator)
    wanted = str(accelerator)
    if wanted in ("gpu", "cuda", "mps") and found.type not in ("cuda", "mps"):
        raise UserError(
            f"trainer.accelerator={wanted} needs a GPU, and torch finds none on this machine: add "
            "trainer.accelerator=cpu, or for two processes on the CPU trainer=cpu "
            "trainer.strategy=ddp trainer.devices=2"
        )
    if found.type == "cpu":
        if str(strategy).startswith(("fsdp", "deepspeed")):
            raise UserError(
                f"trainer.strategy={strategy} needs GPUs: use trainer.strategy=ddp on a CPU"
            )
        if devices != "auto" and not str(devices).isdecimal():
            raise UserError(
                f"trainer.devices={devices} must be a number of processes, 1 or more, on a CPU"
            )
    if found.type == "cuda" and str(devices).isdecimal():
        there = torch.cuda.device_count()
        if int(devices) > there:
            raise UserError(
                f"trainer.devices={devices} is more than the {there} GPUs of this machine: use "
                "trainer.devices=auto for all of them"
            )


class Peers(Callback):
    """Has the processes of a training begin alike, and says so when one of them is lost.

    Args:
        folder: of the run.
        checkpoint: that this process goes on from.
    """

    def __init__(self, folder: Path, checkpoint: Path | None) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.lost = ""
        """Error message about a lost process; empty if none was lost."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare with the first process.

        Raises:
            UserError: they are not about to do the same.
        """
        found = (str(self.folder), str(self.checkpoint))
        folder, checkpoint = trainer.strategy.broadcast(found)
        if (folder, checkpoint) != found:
            raise UserError(
                f"process {trainer.global_rank} would train in {found[0]} from checkpoint "
                f"{found[1]}, but the first one in {folder} from {checkpoint}: all machines need "
                "the same command and a shared disk under paths.runs"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, error: Any) -> None:
        """Print one sentence if another process was lost.

        At once: torchrun, when it misses the other machine, soon kills this process too.
        """
        text = str(error).partition("\n")[0].partition(". This is typically")[0]
        if isinstance(error, torch.distributed.DistError) or "/gloo/" in text:
            self.lost = (
                "another process of this training ended or can't be reached; what it printed may "
                "say why. The same command with resume=auto goes on from the last checkpoint in "
                f"{self.folder} (the connection's own words: {text})"
            )
            print(f"Error: {self.lost}", file=sys.stderr, flush=True)
