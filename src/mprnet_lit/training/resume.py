"""Selection of the checkpoint to resume, and comparison of its settings with the command."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mprnet_lit.config.renamed import upgraded
from mprnet_lit.models import Size
from mprnet_lit.runs import folder as runs
from mprnet_lit.runs.files import flatten, is_within
from mprnet_lit.training.build import check_size
from mprnet_lit.training.callbacks.checkpoint_states import best_of
from mprnet_lit.training.callbacks.summary import show, write_summary
from mprnet_lit.training.checkpoints import (
    AVERAGED,
    data_state,
    epochs_done,
    read_checkpoint,
    read_info,
)
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import RefusedError
from mprnet_lit.utils.mirror import fetch
from mprnet_lit.weights import RECORD

_FIXED = (
    "seed",
    "task.name",
    "data",
    "model.start_from_identity",
    "module._target_",
    "module.seed",
    "optimizer._target_",
    "trainer.limit_train_batches",
)
"""Keys that must not change, as they determine the batches, their order or the optimizer state."""
_FREE = (
    "data.augmentation",
    "data.cache_gb",  # RestorationDataModule checks its effect on the order of patches
    "data.degrade_on",
    "data.num_workers",
    "data.on_error",
    "data.patterns",
    "data.val",  # with other validation images, the best score is reset
    "data.val_crop_size",
)
"""Exceptions to ``_FIXED``: keys that may change."""
_SHOWN = 4
"""Maximum number of keys in a message."""
_REPORTED = (
    "optimizer",
    "schedule",
    "module",
    "trainer",
    "loss",
    "data.augmentation",
    "data.degrade_on",
    "data.patterns",
)
"""Keys that may change; their changes are reported."""


@dataclass(frozen=True)
class Resumed:
    """Checkpoint that a training run resumes from.

    Attributes:
        path: file of the checkpoint.
        position: epoch and step of the checkpoint, for messages.
        changes: changed settings that take effect, such as ``optimizer.lr 0.0002 -> 0.0001``.
        is_complete: whether the checkpoint has reached the epoch or step limit of the command.
        data: state of the data module.
    """

    path: Path
    position: str
    changes: list[str]
    is_complete: bool
    data: dict[str, Any]


def find_checkpoint(config: DictConfig, folder: Path) -> Path | None:
    """Return the checkpoint to resume from; ``None`` for a new run.

    Raises:
        RefusedError: ``resume`` is a folder without a checkpoint, or both ``weights`` and a path in
            ``resume`` are set.
        UserError: a newer release wrote the run, or the URL in ``resume`` can't be read.
    """
    own = folder / runs.LAST
    runs.check_version(folder)
    if own.is_file() and (config.resume == "auto" or runs.restarted()):
        return own
    if config.resume in (None, "auto"):
        return None
    path = fetch(str(config.resume), lambda name: name.endswith(".ckpt"))
    if path.is_dir():
        if not (path / runs.LAST).is_file():
            raise RefusedError(
                f"{path} does not contain {runs.LAST}: set resume to the folder of one run, or to "
                "a checkpoint"
            )
        runs.check_version(path)
        path /= runs.LAST
    if config.weights is not None:
        raise RefusedError(
            f"weights={config.weights} would have no effect with resume={config.resume}, as "
            "training resumes with the weights of the checkpoint: set weights=null, or remove "
            "resume to start a new run from the weights"
        )
    return path


def read(config: DictConfig, path: Path, size: Size) -> Resumed:
    """Read a checkpoint, and check that the command can resume it with a network of ``size``.

    Raises:
        UserError: the file is not a checkpoint, or it can't be resumed with this configuration.
    """
    content = read_checkpoint(path)
    check_size(path, Size(**content[RECORD]["size"]), size)
    changes = _check_settings(config, path, content)
    done = {"max_epochs": epochs_done(content), "max_steps": content["global_step"]}
    limits = {key: config.trainer[key] for key in done if config.trainer[key] != -1}
    for key, limit in limits.items():
        if done[key] > limit:
            raise RefusedError(
                f"can't resume {path} with trainer.{key}={limit}: the checkpoint is already at "
                f"{done[key]}. Set trainer.{key} to more than {done[key]}"
            )
    is_complete = any(done[key] == limit for key, limit in limits.items())
    position = f"epoch {done['max_epochs']}, step {done['max_steps']}"
    return Resumed(path, position, changes, is_complete, data_state(content))


def _check_settings(config: DictConfig, checkpoint: Path, content: Mapping[str, Any]) -> list[str]:
    """Compare the settings of the command with those of the checkpoint; return the changes.

    Settings that are not recorded in the checkpoint count as equal.

    Raises:
        RefusedError: a setting that must not change differs, or a required callback is missing.
    """
    asked = flatten(OmegaConf.to_container(config, resolve=True))
    trained = upgraded(flatten(dict(read_info(content).config)), asked)
    differ = [k for k in asked if k in trained and not _same(asked[k], trained[k])]
    fixed = [k for p in _FIXED for k in differ if is_within(k, [p]) and not is_within(k, _FREE)]
    if fixed:
        shown = [k for k in fixed if k not in ("data.seed", "module.seed")][:_SHOWN] or fixed
        here = ", ".join(f"{key}={_text(asked[key])}" for key in shown)
        there = ", ".join(f"{key}={_text(trained[key])}" for key in shown)
        raise RefusedError(
            f"can't resume {checkpoint} with {here}: it was trained with {there}. Use the same "
            f"values, or start a new run from its weights with weights={checkpoint} and "
            "without resume"
        )
    if config.callbacks.get("checkpoint_states") is None:
        raise RefusedError(
            f"can't resume {checkpoint} without callbacks.checkpoint_states, which checks the "
            "states in the checkpoint: remove ~callbacks.checkpoint_states from the command"
        )
    if AVERAGED in content and "ema" not in config.callbacks:
        raise RefusedError(
            f"can't resume {checkpoint} without callbacks=ema: it was trained with averaged "
            "weights. Add callbacks=ema, or start a new run from the averaged weights with "
            f"weights={checkpoint} and without resume"
        )
    reported = [k for k in differ if is_within(k, _REPORTED) and k != "trainer.default_root_dir"]
    changes = [f"{key} {_text(trained[key])} -> {_text(asked[key])}" for key in reported]
    before, now = (settings.get("data.patterns._target_") for settings in (trained, asked))
    if (before is None) != (now is None):  # release 0.2 had no patterns
        changes.append(f"data.patterns {_text(before)} -> {_text(now)}")
    return changes


def announce(config: DictConfig, folder: Path, resumed: Resumed | None) -> None:
    """Print the checkpoint that the run resumes from, or the result of a complete run.

    Args:
        config: configuration of the command.
        folder: directory of the run.
        resumed: checkpoint to resume from; ``None`` for a new run.
    """
    console = Console()
    if resumed is None:
        if config.resume == "auto":
            print_line(console, not_found(config, HydraConfig.get().mode == RunMode.MULTIRUN))
        return
    changes = ", ".join(resumed.changes)
    if not resumed.is_complete:
        changed = f"; changed: {changes}" if changes else ""
        print_line(console, f"Resuming {resumed.path} ({resumed.position}){changed}")
        return
    print_line(
        console,
        f"Already complete: {resumed.path} is at the end of this run ({resumed.position}). To "
        "train longer, set a larger trainer.max_epochs or trainer.max_steps"
        + (f". These changes have no effect: {changes}" if changes else ""),
    )
    owner = resumed.path.resolve().parent.parent
    if not runs.is_own(resumed.path, owner):  # the checkpoint is outside a run folder
        return
    best = best_of(owner)
    if owner == folder and best and not (folder / runs.SUMMARY).is_file():
        write_summary(folder, best)  # the run was killed before writing the file
    show(owner, best, console)


def not_found(config: DictConfig, in_sweep: bool) -> str:
    """Return a message that explains why ``resume=auto`` starts a new run.

    The message of a sweep job does not name other jobs.
    """
    nearest = runs.nearest(config)
    if nearest is not None and not nearest.differ:
        found = f"resume=auto found {nearest.folder}"
        if (nearest.folder / runs.LAST).is_file():
            return f"{found}, but hydra.run.dir names another folder: starting a new run there"
        return f"{found}, which has no checkpoint yet: starting a new run"
    missing = f"resume=auto found no run of this configuration in {config.paths.runs}"
    if nearest is None or in_sweep:
        return f"{missing}: starting a new one"
    shown = [f"{k} ({_text(a)} there, {_text(b)} here)" for k, a, b in nearest.differ[:_SHOWN]]
    rest = len(nearest.differ) - len(shown)
    more = f" and {rest} more" if rest else ""
    return (
        f"{missing}; the nearest is {nearest.folder}, which differs in {', '.join(shown)}{more}: "
        "starting a new one"
    )


def _same(asked: Any, trained: Any) -> bool:
    """Compare a setting with a recorded one, which may be of any type in a damaged file."""
    if isinstance(asked, list) and isinstance(trained, list | tuple):
        return len(asked) == len(trained) and all(map(_same, asked, trained))
    return isinstance(trained, str | int | float | None) and bool(asked == trained)


def _text(value: Any) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return "".join(c for c in text if c.isprintable())[:80]
