"""Learning-rate range test before a training (``lr_finder=true``)."""

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning import Trainer, seed_everything
from lightning.pytorch.tuner.tuning import Tuner
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.data import RestorationDataModule
from mprnet_lit.runs.files import flatten
from mprnet_lit.training.build import build_model, build_module
from mprnet_lit.training.callbacks.out_of_memory import OutOfMemoryAdvice
from mprnet_lit.training.checkpoints import read_checkpoint, read_info
from mprnet_lit.training.errors import explained
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.training.trainer import build_trainer
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import RefusedError, UserError

STEPS = 100
"""Number of training steps of the test."""
SKIPPED = 10
"""Number of first losses that do not count."""
LOWEST, HIGHEST = 1e-6, 1e-1
"""Range of the learning rates, which grow exponentially during the test."""


def with_suggestion(config: DictConfig, folder: Path, checkpoint: Path | None) -> DictConfig:
    """Return the configuration with the learning rate that the test suggests.

    The configuration is returned as it is if ``lr_finder`` is not set. A resumed run keeps its
    learning rate.

    Args:
        config: configuration of ``mode=train``.
        folder: directory of the run.
        checkpoint: checkpoint to resume from; ``None`` for a new run.

    Raises:
        UserError: the test gives no suggestion, the trainer has several devices, or the run of
            ``checkpoint`` was trained without ``lr_finder``.
    """
    if not config.lr_finder:
        return config
    rate = suggestion(config, folder) if checkpoint is None else _recorded(checkpoint)
    changed = config.copy()
    OmegaConf.update(changed, "optimizer.lr", rate)
    return changed


def suggestion(config: DictConfig, folder: Path) -> float:
    """Run the test on a network of its own, print the suggestion and return it.

    Lightning trains a few steps with growing learning rates (Smith, "Cyclical Learning Rates for
    Training Neural Networks", WACV 2017, section 3.3); see :func:`best_rate`.

    Args:
        config: configuration of ``mode=train``.
        folder: directory of the run, for error messages.

    Raises:
        UserError: the test gives no suggestion, or the trainer has several devices.
    """
    console = Console()
    with TemporaryDirectory() as temporary:
        settings = _settings(config, temporary)
        trainer = build_trainer(settings)
        if trainer.world_size > 1:
            raise UserError(
                "lr_finder=true needs a single device: run it with trainer.devices=1, then set "
                "optimizer.lr to its suggestion"
            )
        print_line(console, f"Finding a learning rate in {STEPS} steps ...")
        seed_everything(config.seed, workers=True, verbose=False)
        data: RestorationDataModule = instantiate(settings.data)
        module = build_module(settings, build_model(settings).model, compile=False)
        # Without a terminal, the progress bar would fill the log.
        quiet = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
        with explained(trainer, folder), _advised(trainer, module), quiet:
            found = Tuner(trainer).lr_find(
                module,
                datamodule=data,
                num_training=STEPS,
                min_lr=LOWEST,
                max_lr=HIGHEST,
                update_attr=False,
                early_stop_threshold=None,  # assumes positive losses
            )
    assert found is not None  # None with fast_dev_run, which the configuration lacks
    rate = best_rate(found.results["lr"], found.results["loss"])
    print_line(console, f"Found optimizer.lr={rate:g} instead of {config.optimizer.lr:g}")
    return rate


def best_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return a tenth of the learning rate with the smallest loss, to three digits.

    The first losses, which are averages of few steps, do not count. ``suggestion()`` of Lightning
    is not used: it divides the differences of the losses by those of the learning rates, so that
    the noise of the smallest learning rates decides.

    Args:
        rates: learning rate of each step.
        losses: smoothed loss of each step.

    Raises:
        UserError: the loss falls by less than a tenth.
    """
    pairs = [(loss, rate) for loss, rate in zip(losses, rates, strict=False) if isfinite(loss)]
    least, rate = min(pairs[SKIPPED:], default=(inf, 0.0))
    if not pairs[SKIPPED:] or pairs[SKIPPED][0] - least < abs(pairs[SKIPPED][0]) / 10:
        raise UserError(
            f"lr_finder=true found no learning rate from {LOWEST:g} to {HIGHEST:g} at which the "
            "loss falls by a tenth: set optimizer.lr and lr_finder=false"
        )
    return float(f"{rate / 10:.3g}")


def _settings(config: DictConfig, folder: str) -> DictConfig:
    """Return the configuration of the test: no limit but its steps, no validation, no records."""
    changed = config.copy()
    endless = {"max_epochs": STEPS, "max_steps": -1, "max_time": None}
    never = {"limit_val_batches": 0, "log_every_n_steps": 0}
    for key, value in (endless | never | {"default_root_dir": folder}).items():
        OmegaConf.update(changed, f"trainer.{key}", value)
    OmegaConf.update(changed, "paths.run", folder)
    return changed


@contextmanager
def _advised(trainer: Trainer, module: RestorationModule) -> Iterator[None]:
    """Convert an out-of-memory error to advice; the test runs without callbacks."""
    try:
        yield
    except Exception as error:
        callback = OutOfMemoryAdvice()
        callback.on_exception(trainer, module, error)
        if callback.advice:
            raise UserError(callback.advice) from error
        raise


def _recorded(checkpoint: Path) -> float:
    """Return the learning rate in a checkpoint.

    Raises:
        UserError: the checkpoint can't be read.
        RefusedError: its run was trained without ``lr_finder``.
    """
    found = read_info(read_checkpoint(checkpoint)).config
    rate = flatten(found).get("optimizer.lr")
    if found.get("lr_finder") is True and isinstance(rate, int | float) and rate > 0:
        return float(rate)
    raise RefusedError(
        f"lr_finder=true can't resume {checkpoint}, because its run recorded no suggestion: set "
        "optimizer.lr and lr_finder=false"
    )
