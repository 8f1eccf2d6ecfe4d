"""Builders of the network, the LightningModule and the callbacks from a configuration."""

from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning import Callback
from omegaconf import DictConfig, OmegaConf
from torch.optim import Adam

from mprnet_lit import weights
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.models import MPRNet, Size
from mprnet_lit.runs.settings import recorded
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights.training_config import training_settings


def build_model(config: DictConfig) -> weights.Weights:
    """Return a new network, or the network in the file ``weights``.

    Raises:
        UserError: ``model`` is not a valid size; the weights file can't be read, or contains a
            network of another size.
    """
    size = Size(**{field.name: config.model[field.name] for field in fields(Size)})
    if config.weights is None:
        model = MPRNet(**asdict(size))
        if config.model.start_from_identity:
            model.start_from_identity()
        return weights.Weights(model)
    read = weights.read(str(config.weights))
    check_size(config.weights, read.model.size, size)
    return read


def build_module(config: DictConfig, model: MPRNet, **options: Any) -> RestorationModule:
    """Return the LightningModule that trains a network; ``options`` override the configuration."""
    module = instantiate(
        config.module,
        model=model,
        loss=instantiate(config.loss),
        optimizer=_optimizer(config),
        schedule=instantiate(config.schedule),
        **options,
    )
    return cast(RestorationModule, module)


def build_info(config: DictConfig, source: weights.Info) -> weights.Info:
    """Return the metadata for the checkpoints of a training run.

    Args:
        config: configuration of the command.
        source: metadata of the initial weights, whose license also applies to the result.
    """
    return weights.Info(
        task=config.task.name,
        crop=config.data.patch_size,
        license=source.license,
        config=training_settings(recorded(config, numbers=True)),
    )


def build_callbacks(config: DictConfig) -> list[Callback]:
    """Return the callbacks in the order of the configuration."""
    return [instantiate(node) for node in configured(config.callbacks).values()]


def configured(group: DictConfig) -> dict[str, DictConfig]:
    """Return the entries of a config group that have a ``_target_``; null entries are skipped."""
    return {
        str(name): node
        for name, node in group.items()
        if OmegaConf.is_dict(node) and "_target_" in node
    }


def _optimizer(config: DictConfig) -> Any:
    """Return the function that builds the optimizer, with ``fused=True`` for Adam.

    An explicit setting in the configuration has precedence. Fused optimizers unscale the gradients
    of 16-mixed by themselves, so that Lightning can't clip these gradients.
    """
    make = instantiate(config.optimizer)
    clips = config.trainer.gradient_clip_val is not None
    if (
        isinstance(make, partial)
        and isinstance(make.func, type)
        and issubclass(make.func, Adam)
        and not make.keywords.keys() & {"fused", "foreach", "differentiable"}
        and not (clips and str(config.trainer.precision) in ("16-mixed", "16"))
    ):
        return partial(make, fused=True)
    return make


def check_size(path: str | Path, found: Size, wanted: Size) -> None:
    """Check that a file contains a network of the configured size.

    Raises:
        UserError: the sizes differ.
    """
    if found != wanted:
        raise UserError(
            f"{path} contains a network of another size ({_text(found)}) than model "
            f"({_text(wanted)}): set model to the size of the network in the file"
        )


def _text(size: Size) -> str:
    return ", ".join(f"{name}={value}" for name, value in asdict(size).items())
