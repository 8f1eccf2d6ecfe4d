"""Atomic writing and validated reading of checkpoints."""

import os
import stat
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from packaging.version import Version
from torch import Tensor

from mprnet_lit.models import Size
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.format_version import check_format
from mprnet_lit.utils.outbox import uploaded
from mprnet_lit.utils.remote import remove
from mprnet_lit.utils.url import is_url
from mprnet_lit.weights import RECORD, Info
from mprnet_lit.weights.tensors import is_plain, read_tensors

AVERAGED = "current_model_state"
"""Key of the current weights in a checkpoint with averaged weights in ``state_dict``."""
_MAX_COUNT = 2**53
_DATA_MODULES = ("RestorationDataModule", "ShardDataModule")
"""Keys of the state of the data module: the name of its class."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Reads, removes and atomically writes checkpoints, also at URLs.

    Only regular files are replaced. Only regular files that are directly in ``folder`` or were
    written by this object are removed.

    Args:
        folder: directory of the run's checkpoints.

    Attributes:
        written: files and URLs that this object wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: set[Path | str] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint.

        Raises:
            UserError: the file can't be written, for example because the disk is full or a URL
                can't be reached (the previous file is unchanged), or the path is a link or a
                special file.
        """
        if is_url(address := os.fspath(path)):
            with uploaded(address, overwrite=True) as copy:
                self.save_checkpoint(checkpoint, copy)
            self.written.add(address)
            return
        path = Path(path)
        linked = path.parent.is_symlink()
        if linked or (os.path.lexists(path) and not is_regular(path)):
            raise UserError(
                f"can't write the checkpoint {path}: {path.parent if linked else path} is a link "
                "or a special file: remove it, or set paths.runs to the folder that it points to"
            )
        content = BytesIO()  # torch.save to a path hides the reason for a failure
        states = _without_folders(checkpoint.get("callbacks", {}))
        torch.save(checkpoint | {"callbacks": states}, content)
        write_atomic(
            path,
            content.getbuffer(),
            "the checkpoint",
            "free some space or set paths.runs to another disk, then add resume=auto",
        )
        self.written.add(path)

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the content of a checkpoint, checked by :func:`read_checkpoint`."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint if it is a regular file of this run."""
        if is_url(address := os.fspath(path)):
            if address in self.written:
                remove(address)
            return
        path = Path(path)
        within = path.parent.resolve() == self.folder.resolve() and not self.folder.is_symlink()
        if (within or path in self.written) and is_regular(path):
            path.unlink(missing_ok=True)


def _without_folders(state: Any) -> Any:
    """Replace the absolute paths in the states of callbacks with file names.

    Checkpoints are shared as weights, so they must not contain paths of this machine.
    """
    if isinstance(state, dict):
        return {_without_folders(key): _without_folders(value) for key, value in state.items()}
    if isinstance(state, str) and Path(state).is_absolute():
        return Path(state).name
    return state


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file, not a link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint.

    Only tensors and plain values are read. Code in the file is not executed.

    Raises:
        UserError: the file is missing, is damaged, is not a training checkpoint of this project, or
            has a newer format.
    """
    refusal = (
        f"{path} is not a training checkpoint of mprnet_lit, or it is damaged; "
        "to start from other weights use weights=PATH"
    )
    try:
        content = read_tensors(path)
        check_format(path, content.get(RECORD))
    except FileNotFoundError as error:
        raise UserError(f"the checkpoint {path} does not exist: check the path") from error
    except UserError:  # a pipe or a newer format
        raise
    except Exception as error:  # torch.load may raise any error
        raise UserError(refusal) from error
    try:
        return _checked(content)
    except Exception as error:  # values of a wrong type may raise any error
        raise UserError(refusal) from error


def read_info(content: Mapping[str, Any]) -> Info:
    """Return the metadata of a checkpoint: training settings and last metrics."""
    return Info.of(content[RECORD])


def data_state(content: Mapping[str, Any]) -> Any:
    """Return the state of the data module in a checkpoint; ``{}`` if there is none."""
    return next((content[name] for name in _DATA_MODULES if name in content), {})


def matching(template: Any, value: Any) -> Any:
    """Check the types of a value, and return it restricted to the keys of a template.

    Missing keys are filled from the template.

    Raises:
        ValueError: a value has another type or shape than in the template, or a number is negative
            or too large.
    """
    if isinstance(template, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.40} instead of a mapping")
        return {k: matching(t, value[k]) if k in value else t for k, t in template.items()}
    if isinstance(template, Tensor):
        fits = isinstance(value, Tensor) and value.shape == template.shape and is_plain(value)
    elif isinstance(template, int | float) and not isinstance(template, bool):
        fits = type(value) in (int, type(template)) and 0 <= value <= _MAX_COUNT
    else:
        fits = type(value) is type(template)
    if not fits:
        raise ValueError(f"{value!r:.40} where {template!r:.40} is expected")
    return value


def _checked(content: Any) -> dict[str, Any]:
    """Check the types of all values that are read later, and convert those of release 0.1."""
    Size(**content[RECORD]["size"])
    Info.of(content[RECORD])
    if Version(content["pytorch-lightning_version"]) < Version("2.0"):
        raise ValueError("written by an older Lightning")
    for key in ("state_dict", AVERAGED, "averaging_state"):
        for name, tensor in content.get(key, {}).items():
            if not (isinstance(name, str) and isinstance(tensor, Tensor) and is_plain(tensor)):
                raise TypeError(f"{key} does not contain weights")
    counts = (content["epoch"], content["global_step"], epochs_done(content))
    if not all(type(count) is int and 0 <= count <= _MAX_COUNT for count in counts):
        raise ValueError("impossible counts")
    callbacks = content.setdefault("callbacks", {})
    if "BadSteps" in callbacks:  # names of release 0.1
        callbacks["SkipNonFinite"] = callbacks.pop("BadSteps")
    if batches := callbacks.pop("Batches", None):
        callbacks["CheckpointStates"] = {"batches_per_epoch": batches["of_an_epoch"]}
    if not all(isinstance(k, str) and isinstance(v, dict) for k, v in callbacks.items()):
        raise TypeError("the states of callbacks are not mappings")
    if not isinstance(data_state(content), dict):
        raise TypeError("the state of the data is not a mapping")
    _reopen_epoch(content)
    return dict(content)


def _reopen_epoch(content: dict[str, Any]) -> None:
    """Mark an epoch that a step or time limit ended early as unfinished.

    Lightning marks such an epoch as complete and would skip its remaining batches.
    """
    loop = content["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]["current"]
    length = content["callbacks"].get("CheckpointStates", {}).get("batches_per_epoch", 0)
    ended = epochs["current"]["processed"] == epochs["current"]["started"]
    if ended and 0 < batches["processed"] < length:
        for counts in (epochs["current"], epochs["total"]):
            counts["processed"] -= 1
            counts["completed"] = counts["processed"]


def epochs_done(content: Mapping[str, Any]) -> int:
    """Return the number of completed epochs in a checkpoint."""
    progress = content["loops"]["fit_loop"]["epoch_progress"]
    done: int = progress["current"]["processed"]
    return done
