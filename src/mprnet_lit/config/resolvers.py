"""OmegaConf resolvers of the configuration: ``${mprnet.NAME:ARGUMENTS}``."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from omegaconf import DictConfig, Node, OmegaConf

from mprnet_lit.config.renamed import upgraded
from mprnet_lit.config.schema import register_schema
from mprnet_lit.config.values import NOT_AT_URL
from mprnet_lit.runs.folder import find_run, refuse_existing, run_stamp
from mprnet_lit.utils.compat import full_key
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.url import refuse_url


def register_resolvers() -> None:
    """Register the resolvers and the schemas of the configuration."""
    for resolver in (machine, gpus, loss, required, run_dir, new_run):
        OmegaConf.register_new_resolver(f"mprnet.{resolver.__name__}", resolver, replace=True)
    OmegaConf.register_new_resolver("mprnet.stamp", run_stamp, replace=True, use_cache=True)
    register_schema()


def machine(trainer: str) -> str:
    """Return ``gpu`` if torch finds an accelerator and the trainer may use it, else ``cpu``.

    A CPU build of torch is not imported, because the import takes over a second.

    Args:
        trainer: option of the group ``trainer``, or value of ``trainer.accelerator``.
    """
    if trainer == "cpu" or ("torch" not in sys.modules and version("torch").endswith("+cpu")):
        return "cpu"
    from mprnet_lit.utils.hardware import training_device

    return "cpu" if training_device(trainer).type == "cpu" else "gpu"


def gpus(accelerator: str) -> int:
    """Return the number of GPUs that one job of a sweep on this machine uses."""
    return int(machine(accelerator) == "gpu")


def loss(task: str) -> str:
    """Return the option of the group ``loss`` of the paper for a task."""
    return "charbonnier" if task == "denoise" else "charbonnier_edge"


def required(*, _node_: Node) -> NoReturn:
    """Raise UserError because a mandatory key is not set.

    The value ``???`` does not suffice, because it does not override a value of an earlier file.
    """
    key = full_key(_node_)
    raise UserError(f"{key} is not set: add {key}=VALUE to the command")


def run_dir(new: str, *, _root_: DictConfig) -> str:
    """Return the folder of the run that ``resume=auto`` finds, or ``new`` if it finds none."""
    refuse_url("paths.runs", new, NOT_AT_URL)
    found = find_run(_root_, upgraded) if _root_.resume == "auto" else None
    return str(new if found is None else found)


def new_run(subfolder: str, *, _root_: DictConfig) -> str:
    """Return ``subfolder`` after checking that the command does not overwrite a run.

    Hydra resolves its output subfolder before it writes any file into the run folder.
    """
    refuse_existing(Path(_root_.hydra.runtime.output_dir), _root_.get("resume"))
    return subfolder
