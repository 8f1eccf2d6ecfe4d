"""Reading and writing weights files: published ``.pth``, our ``.ckpt``, ``.safetensors``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from mprnet_lit.models import MPRNet
from mprnet_lit.utils.atomic import require_regular, write_whole
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights.info import OLD_LICENSE, PUBLISHED_LICENSE, RECORD, Info
from mprnet_lit.weights.official import from_official, is_official, to_official
from mprnet_lit.weights.shapes import ACTIVATION, build
from mprnet_lit.weights.shipped import SHIPPED, shipped
from mprnet_lit.weights.tensors import is_plain, read_tensors

SUFFIXES = (".safetensors", ".ckpt", ".pth")
_OURS = "model."
"""What stands before the network's parameters in a checkpoint of ours."""
_PUBLISHED_CROP = {80: 128}
"""Training patches of the published weights, by width: the denoiser's; the others had 256."""


@dataclass(frozen=True)
class Weights:
    """A network, what its file says of it, and the file."""

    model: MPRNet
    info: Info = field(default_factory=Info)
    path: Path | None = None


def load_weights(path: str | Path) -> MPRNet:
    """Read a network from a weights file; as :func:`read`, without what else the file says."""
    return read(path).model


def read(path: str | Path) -> Weights:
    """Read a network from a weights file, its hyperparameters off the shapes.

    Takes published weights (a state dict, by itself or under ``state_dict``, with or without
    ``module.``), our training checkpoints and ``.safetensors``; of a folder of runs, such as
    ``runs/denoise``, the best checkpoint of the newest. Where nothing is called so, ``denoise``,
    ``deblur`` and ``derain`` are the weights inside the package. Only tensors and plain values
    are read, so that no code in the file is run.

    Raises:
        UserError: there is no such file, it is damaged, holds no MPRNet, or holds values that are
            not finite.
    """
    require("path", path, (str, Path), "the name of a weights file")
    path = shipped(str(path)) if str(path) in SHIPPED and not Path(path).exists() else Path(path)
    if path.is_dir():
        path = _newest(path)
    if path.suffix == ".onnx":
        raise UserError(f"{path} is an exported network: only mode=restore and evaluate take it")
    try:
        state, record = _read_safetensors(path) if path.suffix == ".safetensors" else _read(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no weights file {path}: check weights") from error
    except UserError:
        raise
    except Exception as error:  # readers fail in as many ways as a file can be wrong
        raise UserError(
            f"{path} is not a weights file, is damaged, or wants to run code when read: "
            "get it again from where it was published"
        ) from error
    try:
        published = is_official(state)
        model = build(from_official(state) if published else state)
        if published and not record:
            crop = _PUBLISHED_CROP.get(model.size.width, 256)
            return Weights(model, Info(crop=crop, license=PUBLISHED_LICENSE), path)
        return Weights(model, Info.of(record), path)
    except Exception as error:  # as many ways as tensors of a stranger can be of another kind
        reason = " ".join(str(error).split())[:400]
        raise UserError(f"{path} does not hold the weights of an MPRNet: {reason}") from error


def save(model: MPRNet, path: str | Path, info: Info | None = None) -> None:
    """Write a network atomically; the suffix is the format.

    ``.safetensors`` holds the shared PReLU once and :class:`Info` in its metadata; ``.pth`` has the
    published names; ``.ckpt`` is what ``weights=`` takes to train on from.

    Raises:
        UserError: the suffix is another, or the file can't be written.
    """
    require("model", model, MPRNet, "an MPRNet")
    require("path", path, (str, Path), "the name of a weights file")
    path, info = Path(path), info or Info()
    require("info", info, Info, "an Info")
    record = info.record(model.size)
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    if path.suffix == ".safetensors":
        once = {name: t for name, t in state.items() if not name.endswith(ACTIVATION)}
        once[ACTIVATION] = next(t for name, t in state.items() if name.endswith(ACTIVATION))
        metadata = {name: json.dumps(value) for name, value in record.items()}
        write_whole(path, safetensors.torch.save(once, {"format": "pt", **metadata}))
    elif path.suffix == ".pth":
        named = to_official(state, model.size.cabs_per_orb)
        _save_torch({"state_dict": named, RECORD: record}, path)
    elif path.suffix == ".ckpt":
        named = {f"{_OURS}{name}": tensor for name, tensor in state.items()}
        _save_torch({"state_dict": named, RECORD: record}, path)
    else:
        raise UserError(f"{path}: weights are written as {', '.join(SUFFIXES)}: choose one of them")


def _newest(folder: Path) -> Path:
    """Return the best checkpoint of the newest run in a folder."""
    found = list(folder.glob("**/checkpoints/best.ckpt"))
    if not found:
        raise UserError(f"{folder} is a folder without runs (checkpoints/best.ckpt): check weights")
    return max(found, key=lambda path: path.stat().st_mtime)


def _save_torch(content: Mapping[str, Any], path: Path) -> None:
    buffer = BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict, under whichever names, and our record if there is one."""
    content: Any = read_tensors(path)
    state = content.get("state_dict", content)
    record = content.get(RECORD, {})
    if not all(isinstance(tensor, Tensor) and is_plain(tensor) for tensor in state.values()):
        raise TypeError("not a state dict")
    if record and not is_official(state):  # the losses' and metrics' own tensors are not ours
        state = {n.removeprefix(_OURS): t for n, t in state.items() if n.startswith(_OURS)}
    return state, dict(record)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    require_regular(path)
    with safe_open(path, framework="pt") as file:
        known = {f.name for f in fields(Info)} | {OLD_LICENSE}
        record = {n: json.loads(v) for n, v in (file.metadata() or {}).items() if n in known}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if ACTIVATION in state:
        shared = state.pop(ACTIVATION)
        convolutions = [n for n in state if n.endswith(".conv1.weight")]
        state |= {n.removesuffix("conv1.weight") + ACTIVATION: shared for n in convolutions}
    return state, record
