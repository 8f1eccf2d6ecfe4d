"""Validation of the training states in a checkpoint before Lightning restores them."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer, WeightAveraging
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mprnet_lit.runs.folder import LAST
from mprnet_lit.training.callbacks.summary import Summary
from mprnet_lit.training.checkpoints import (
    data_state,
    is_regular,
    matching,
    read_checkpoint,
    read_info,
)
from mprnet_lit.training.module import RESTORATIONS, RestorationModule, grad_scaler
from mprnet_lit.training.schedule import move
from mprnet_lit.utils.compat import set_logged_step
from mprnet_lit.utils.errors import UserError


class CheckpointStates(Callback):
    """Restores only counts, optimizer moments and weights from a checkpoint; checks their types.

    The configuration sets the hyperparameters of the optimizer, the schedule and all paths. The
    best checkpoints are those in the folder of this run, ranked by the scores in the files.

    Args:
        folder: directory of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._batches = 0
        self._restored_batches = 0
        self._optimizer_states: list[dict[str, Any]] | None = None
        self._groups: list[list[dict[str, Any]]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the number of batches in an epoch, for the checkpoint."""
        return {"batches_per_epoch": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store the number of batches in an epoch at the time of the checkpoint."""
        self._restored_batches = state_dict["batches_per_epoch"]

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the states before Lightning restores them; drop values set by the configuration."""
        loops, states = checkpoint["loops"], checkpoint["callbacks"]
        loops["fit_loop"] = matching(trainer.fit_loop.state_dict(), loops["fit_loop"])
        images = trainer.datamodule.state_dict()["validation"]  # type: ignore[attr-defined]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            key = callback.state_key
            if isinstance(callback, ModelCheckpoint):
                adopt(callback, states.pop(key, {}), self.folder / LAST.parent, images)
            elif isinstance(callback, Summary):
                callback.best = best_of(self.folder, images)
            elif key in states and _has_fixed_state(callback):
                states[key] = matching(callback.state_dict(), states[key])
                if isinstance(callback, EarlyStopping):
                    states[key]["patience"] = callback.patience
        checkpoint.pop("native_amp_scaling_state", None)
        scaler = grad_scaler(trainer)
        if scaler is not None:
            name = type(trainer.precision_plugin).__qualname__
            checkpoint[name] = matching(scaler.state_dict(), checkpoint.get(name, {}))
        checkpoint["lr_schedulers"] = []  # on_train_start sets the configured schedule
        self._optimizer_states = checkpoint["optimizer_states"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the configured hyperparameters, and check the optimizer states to restore."""
        optimizers = trainer.optimizers
        self._groups = [
            [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            for optimizer in optimizers
        ]
        states, self._optimizer_states = self._optimizer_states, None
        if states is None:
            return
        assert isinstance(pl_module, RestorationModule)
        if len(states) != len(optimizers):
            raise ValueError("the checkpoint has another number of optimizers")
        for state, optimizer, groups in zip(states, optimizers, self._groups, strict=True):
            check_moments(state["state"], optimizer, pl_module.make_optimizer)
            _match_strides(state["state"], optimizer)
            pairs = zip(groups, state["param_groups"], strict=True)
            state["param_groups"] = [group | {"params": s["params"]} for group, s in pairs]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply the configured hyperparameters and schedule at the restored position.

        Raises:
            UserError: the number of batches in an epoch differs from that of the checkpoint.
        """
        self._batches = int(trainer.num_training_batches)
        if trainer.ckpt_path is None:
            return
        if self._restored_batches not in (0, self._batches):
            raise UserError(
                f"can't resume: an epoch had {self._restored_batches} batches at the checkpoint, "
                f"and has {self._batches} now. Use the same training images, data.batch_size, "
                "trainer.accumulate_grad_batches and trainer.limit_train_batches, or start a new "
                "run from the weights of the checkpoint with weights=PATH and without resume"
            )
        for optimizer, groups in zip(trainer.optimizers, self._groups, strict=True):
            for group, configured in zip(optimizer.param_groups, groups, strict=True):
                group.update(configured)
        steps = trainer.global_step
        epochs = steps // math.ceil(self._batches / trainer.accumulate_grad_batches)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR):
                move(config.scheduler, steps if config.interval == "step" else epochs)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the number of the next logged step.

        With ``max_steps``, Lightning adds 1 when it resumes a checkpoint of the end of an epoch.
        """
        if trainer.ckpt_path is not None:
            set_logged_step(trainer, trainer.global_step)


def adopt(callback: ModelCheckpoint, state: Mapping[str, Any], folder: Path, images: Any) -> None:
    """Register the checkpoints in ``folder`` with a ``ModelCheckpoint``.

    Args:
        callback: new callback without a restored state.
        state: state of the callback in a checkpoint, of which only the file names are used.
        folder: directory of the run's checkpoints.
        images: digest of the validation images of this run; scores on other images are ignored.
    """
    listed = state.get("best_k_models")
    names = [*(listed if isinstance(listed, dict) else ()), state.get("best_model_path")]
    names = [f"{callback.filename}{callback.FILE_EXTENSION}", *names]
    paths = {folder / Path(name).name for name in names if isinstance(name, str) and name}
    own = sorted(path for path in paths if is_regular(path))
    place = Path(callback.dirpath or folder)
    if place.resolve() != folder.resolve():
        return
    if callback.monitor is None:
        callback.best_model_path = str(place / own[0].name) if own else ""
        return
    for path in own:
        content = read_checkpoint(path)
        score = read_info(content).metrics.get(callback.monitor)
        if score is not None and math.isfinite(score) and _is_comparable(content, images):
            callback.best_k_models[str(place / path.name)] = torch.tensor(score)
    ranked = sorted(callback.best_k_models.items(), key=lambda item: float(item[1]))
    ranked = ranked if callback.mode == "min" else ranked[::-1]
    if callback.save_top_k >= 0:
        ranked = ranked[: callback.save_top_k]
    callback.best_k_models = dict(ranked)
    if ranked:
        callback.best_model_path, callback.best_model_score = ranked[0]
        callback.kth_best_model_path, callback.kth_value = ranked[-1]
        callback.current_score = callback.best_model_score


def best_of(folder: Path, images: Any = None) -> dict[str, float]:
    """Return metrics, epoch and step of ``best.ckpt``, and the number of its parameters.

    The result is empty if the file is missing, lacks metrics, or was validated on other images.

    Args:
        folder: directory of the run.
        images: digest of the required validation images; ``None`` for any images.
    """
    path = folder / LAST.with_name("best.ckpt")
    if not is_regular(path):
        return {}
    content = read_checkpoint(path)
    metrics = {k.removeprefix("val/"): float(v) for k, v in read_info(content).metrics.items()}
    needed = {"psnr", *(f"{m}_{name}" for m in ("psnr", "ssim") for name in RESTORATIONS)}
    is_complete = needed <= metrics.keys() and math.isfinite(metrics["psnr"])
    if not (is_complete and _is_comparable(content, images)):
        return {}
    weights = (w for key, w in content["state_dict"].items() if key.startswith("model."))
    return metrics | {
        "epoch": content["epoch"] + 1,
        "step": content["global_step"],
        # The blocks share the activation, which is in the checkpoint under the name of each block.
        "parameters": sum({w.data_ptr(): w.numel() for w in weights}.values()),
    }


def _is_comparable(content: Mapping[str, Any], images: Any) -> bool:
    """Return whether a checkpoint was validated on ``images``; True if either is unknown."""
    recorded = data_state(content).get("validation", images)
    return images is None or bool(recorded == images)


def _has_fixed_state(callback: Callback) -> bool:
    """Return whether the state of a callback always has the same keys."""
    is_own = type(callback).__module__.startswith("mprnet_lit.")
    is_known = is_own or isinstance(callback, WeightAveraging | EarlyStopping | Timer)
    return is_known and bool(callback.state_dict())


def check_moments(
    states: Any, optimizer: Optimizer, make: Callable[[Iterable[nn.Parameter]], Optimizer]
) -> None:
    """Check that an optimizer can use the states in a checkpoint.

    Args:
        states: states by parameter index.
        optimizer: configured optimizer.
        make: function that builds the same optimizer for given parameters.

    Raises:
        UserError: the states belong to another type of optimizer.
        ValueError: the states do not fit the parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    # One step of a new optimizer shows the expected state of a parameter of each shape.
    trial = {p.shape: nn.Parameter(torch.zeros(p.shape, device=p.device)) for p in parameters}
    for parameter in trial.values():
        parameter.grad = torch.zeros_like(parameter)
    usual = make(trial.values())
    usual.step(lambda: 0.0)
    for index, values in states.items():
        if type(index) is not int or not 0 <= index < len(parameters):
            raise ValueError(f"no parameter {index!r:.20}")
        expected = dict(usual.state[trial[parameters[index].shape]])
        if set(values) != set(expected):
            raise UserError(
                "the checkpoint has the state of another optimizer (with "
                f"{', '.join(sorted(map(str, values)))}, but the configured optimizer needs "
                f"{', '.join(sorted(expected))}): use the optimizer that the checkpoint was "
                "trained with, or start a new run from its weights with weights=PATH"
            )
        matching(expected, values)


def _match_strides(states: Mapping[int, dict[str, Any]], optimizer: Optimizer) -> None:
    """Give moments the memory format of their parameters, which fused optimizers require."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in states.items():
        parameter = parameters[index]
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                empty = torch.empty_strided(value.shape, parameter.stride(), dtype=value.dtype)
                values[name] = empty.copy_(value)
