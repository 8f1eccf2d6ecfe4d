"""Wrappers of private names of Lightning, torch, Hydra, OmegaConf, Optuna, wandb and OpenVINO.

The private names have no public equivalents. All other modules use public names only.
``tests/utils/test_compat.py`` detects changes of the private names. Libraries are imported inside
the functions, because commands that do not train use this module too.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from lightning import Trainer
    from lightning.pytorch.callbacks import WeightAveraging
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
    from lightning.pytorch.strategies import Strategy
    from omegaconf import Container, Node
    from optuna.trial import FrozenTrial
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR
    from torch.optim.swa_utils import AveragedModel


def starts_subprocesses(trainer: "Trainer") -> bool:
    """Return whether the trainer starts more processes with the command line of this process."""
    from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

    launcher = trainer.strategy.launcher
    return (
        isinstance(launcher, _SubprocessScriptLauncher)
        and not launcher.cluster_environment.creates_processes_externally
    )


def trains_in_child_processes(trainer: "Trainer") -> bool:
    """Return whether all training processes are children of this process (``ddp_spawn``)."""
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def set_process_group_timeout(strategy: "Strategy", seconds: float) -> None:
    """Set the timeout of collective operations; no effect on a strategy without them."""
    if hasattr(strategy, "_timeout"):
        strategy._timeout = timedelta(seconds=seconds)


def is_restoring(trainer: "Trainer") -> bool:
    """Return whether the trainer has not finished restoring a checkpoint."""
    return bool(trainer._checkpoint_connector._loaded_checkpoint)


def logged_step(trainer: "Trainer") -> int:
    """Return the step number under which Lightning logs scalars at this moment."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def set_logged_step(trainer: "Trainer", step: int) -> None:
    """Set the step number under which Lightning logs scalars."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def averaged_model(callback: "WeightAveraging") -> "AveragedModel":
    """Return the averaged model of a callback, which exists from ``setup()`` on."""
    assert callback._average_model is not None
    return callback._average_model


def unscales_by_itself(optimizer: "Optimizer") -> bool:
    """Return whether the optimizer unscales the gradients of a GradScaler by itself."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def set_position(schedule: "LambdaLR", position: int) -> None:
    """Set the step of a learning-rate schedule, and the learning rates of that step."""
    schedule.last_epoch = position
    schedule._step_count = position + 1
    pairs = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    schedule._last_lr = [base * rate(position) for base, rate in pairs]
    for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate


def allow_recompilations(count: int) -> None:
    """Raise the recompilation limit of ``torch.compile`` to at least ``count``."""
    import torch._dynamo

    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, count)


def write_summary(logger: "TensorBoardLogger", summary: Any) -> None:
    """Write a summary protocol buffer, for which ``SummaryWriter`` has no method."""
    logger.experiment._get_file_writer().add_summary(summary)


def drop_anonymous(logger: "WandbLogger") -> None:
    """Drop an argument of ``wandb.init`` that Lightning sets and wandb warns about."""
    logger._wandb_init.pop("anonymous", None)


def full_key(node: "Container | Node", key: Any = None) -> str:
    """Return the dotted key of a node of a configuration, or of one of its children."""
    return str(node._get_full_key(key))


def typed_nodes(schema: type) -> "dict[str, Node]":
    """Return the fields of a dataclass as OmegaConf nodes, which accept values of their type only.

    Unlike a node of the dataclass, a mapping of these nodes accepts additional keys.
    """
    from omegaconf import OmegaConf

    structured = OmegaConf.structured(schema)
    return {key: structured._get_node(key) for key in structured}


def job_result(job: "JobReturn") -> Any:
    """Return the value or exception of a Hydra job; the public property raises the exception."""
    return job._return_value


def trial_id(trial: "FrozenTrial") -> int:
    """Return the identifier of a trial in its storage, which Optuna needs to reopen the trial."""
    return trial._trial_id


def openvino_without_int8() -> dict[str, str]:
    """Return the setting with which the CPU plugin of OpenVINO computes an int8 network in float32.

    The weights and the activations are still rounded to the values of int8.
    """
    return {"LP_TRANSFORMS_MODE": "NO"}
