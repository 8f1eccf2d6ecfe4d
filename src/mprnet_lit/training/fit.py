"""Training of a network from a configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer, seed_everything
from omegaconf import DictConfig

from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.models import MPRNet
from mprnet_lit.runs import folder as runs
from mprnet_lit.runs.provenance import save_provenance
from mprnet_lit.training import launch, lr_finder, resume
from mprnet_lit.training.build import (
    build_callbacks,
    build_info,
    build_model,
    build_module,
)
from mprnet_lit.training.errors import explained
from mprnet_lit.training.loggers import build_loggers, opened
from mprnet_lit.training.sharding import ShardedStrategy
from mprnet_lit.training.trainer import build_trainer


def fit(config: DictConfig, folder: Path) -> MPRNet | None:
    """Train a network.

    Args:
        config: configuration of ``mode=train``.
        folder: directory of the run.

    Returns:
        Trained network; ``None`` if the run was already complete, ran as a separate command, or
        sharded the network over several devices.

    Raises:
        UserError: a setting is invalid, or the run can't be resumed.
    """
    checkpoint = resume.find_checkpoint(config, folder)
    given, config = config, lr_finder.with_suggestion(config, folder, checkpoint)
    seed_everything(config.seed, workers=True, verbose=False)

    data: RestorationDataModule = instantiate(config.data)
    weights = build_model(config)
    module = build_module(config, weights.model)
    module.info = build_info(config, weights.info)
    callbacks = build_callbacks(config)
    loggers = build_loggers(config)
    trainer = build_trainer(config, callbacks, loggers)

    if launch.needs_own_command(trainer):
        launch.run_job(config, folder)
        return None

    resumed = None
    if checkpoint is not None:
        resumed = resume.read(config, checkpoint, weights.model.size)
    if trainer.is_global_zero:
        resume.announce(given, folder, resumed)
    if resumed is not None:
        if resumed.is_complete:
            return None
        if trainer.is_global_zero:  # checks the images before the run is changed
            data.setup()
            data.load_state_dict(resumed.data)

    trainer.ckpt_path = checkpoint
    with (
        _recorded(trainer, given, config, folder, checkpoint),
        opened(trainer, config),
        explained(trainer, folder),
    ):
        trainer.fit(module, data, weights_only=True)
    return None if isinstance(trainer.strategy, ShardedStrategy) else weights.model


@contextmanager
def _recorded(
    trainer: Trainer, given: DictConfig, used: DictConfig, folder: Path, checkpoint: Path | None
) -> Iterator[None]:
    """Lock the run folder and write the files that describe the run, in the first process only.

    Args:
        trainer: trainer of the run.
        given: configuration of the command, by which ``resume=auto`` finds the run.
        used: configuration with the learning rate of ``lr_finder``.
        folder: directory of the run.
        checkpoint: checkpoint that the run resumes from.

    Raises:
        RefusedError: another process holds the lock on ``folder``.
    """
    if not trainer.is_global_zero:
        yield
        return
    with runs.held(folder):
        runs.record(given, folder, checkpoint)
        save_provenance(used, folder)
        yield
