"""The network and the LightningModule that a configuration describes."""

from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig
from torch.optim import Adam

from mprnet_lit import weights
from mprnet_lit.config.messages import instantiate
from mprnet_lit.models import MPRNet, Size
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils.errors import UserError


def build_model(config: DictConfig) -> weights.Weights:
    """Return the network, new or as ``weights`` holds it.

    Raises:
        UserError: ``model`` is no size of a network; the weights can't be read, or are of another.
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
    """Return what trains ``model``; ``options`` go before those of the configuration."""
    module = instantiate(
        config.module,
        model=model,
        loss=instantiate(config.task.loss),
        optimizer=_optimizer(config),
        **options,
    )
    return cast(RestorationModule, module)


def _optimizer(config: DictConfig) -> Any:
    """Return what makes the optimiser; an Adam is fused: one pass over all parameters.

    Not where the configuration chose otherwise, nor where Lightning would then refuse to clip the
    gradients, in mixed precision.
    """
    make = instantiate(config.optimizer)
    clips = config.trainer.gradient_clip_val is not None
    if (
        isinstance(make, partial)
        and isinstance(make.func, type)
        and issubclass(make.func, Adam)
        and not make.keywords.keys() & {"fused", "foreach", "differentiable"}
        and not (clips and "mixed" in str(config.trainer.precision))
    ):
        return partial(make, fused=True)
    return make


def check_size(path: str | Path, found: Size, wanted: Size) -> None:
    """Refuse a file that holds a network of another size.

    Raises:
        UserError: it does.
    """
    if found != wanted:
        held, asked = (
            ", ".join(f"{name}={value}" for name, value in asdict(size).items())
            for size in (found, wanted)
        )
        raise UserError(
            f"{path} holds a network of another size ({held}) than model ({asked}): "
            "choose the model that it was trained with"
        )
