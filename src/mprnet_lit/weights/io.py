"""Reading and writing weights files: ``.pth``, ``.ckpt`` and ``.safetensors``."""

import json
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from mprnet_lit.models import MPRNet
from mprnet_lit.utils.atomic import require_regular_file, write_atomic
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.format_version import FORMAT, check_format
from mprnet_lit.utils.mirror import readable
from mprnet_lit.utils.url import is_url
from mprnet_lit.weights.address import HUB_FILE
from mprnet_lit.weights.download import discard, fetch
from mprnet_lit.weights.info import OLD_LICENSE, PUBLISHED_LICENSE, RECORD, Info
from mprnet_lit.weights.official import from_official, is_official, to_official
from mprnet_lit.weights.shapes import ACTIVATION, build
from mprnet_lit.weights.shipped import SHIPPED, shipped
from mprnet_lit.weights.tensors import is_plain, read_tensors

SUFFIXES = (".safetensors", ".ckpt", ".pth")
_PREFIX = "model."
"""Prefix of the parameters of the network in a training checkpoint."""
_PUBLISHED_CROP = {80: 128}
"""Side of the training patches of the published weights by network width; 256 by default."""


@dataclass(frozen=True)
class Weights:
    """Network with the metadata of its file.

    Attributes:
        model: network in float32 on the CPU.
        info: metadata of the weights.
        path: weights file; ``None`` for a network without a file.
    """

    model: MPRNet
    info: Info = field(default_factory=Info)
    path: Path | None = None


def load_weights(path: str | Path) -> MPRNet:
    """Read a network from a weights file, without its metadata.

    Args:
        path: weights file, folder, address, or name of the shipped weights; see :func:`read`.

    Raises:
        UserError: the file is missing or damaged, or is not a weights file of an MPRNet.
    """
    return read(path).model


def read(path: str | Path) -> Weights:
    """Read a network and its metadata from a weights file.

    The shapes of the tensors determine the hyperparameters. Reading never executes code from the
    file: only tensors and plain values are unpickled.

    Args:
        path: one of

            - a published weights file: a state dict, possibly under the key ``state_dict``, with or
              without the prefix ``module.``;
            - a training checkpoint or ``.safetensors`` file of this package;
            - a folder of runs, such as ``runs/denoise``, for the best checkpoint of its newest run;
            - a folder of :meth:`MPRNet.save_pretrained`;
            - ``hf://OWNER/REPO[/FILE][@REVISION]`` or ``https://HOST/PATH``, optionally with
              ``#sha256=`` and the checksum of the file; see
              :func:`mprnet_lit.weights.download.fetch`;
            - another URL that fsspec reads, such as ``s3://BUCKET/FILE``;
            - ``denoise``, ``deblur`` or ``derain`` for the shipped weights, unless a file or
              folder has this name.

    Raises:
        UserError: the file is missing or damaged, is not a weights file of an MPRNet, has values
            that are not finite, or can't be downloaded.
    """
    require("path", path, (str, Path), "the path of a weights file")
    if not (isinstance(path, str) and is_url(path)):
        return _read_local(path)
    copy = fetch(path)
    try:
        return _read_local(copy)
    except UserError as error:
        discard(copy)
        raise UserError(readable(str(error))) from error


def _read_local(path: str | Path) -> Weights:
    """Read a weights file, a folder or shipped weights; see :func:`read`."""
    path = shipped(str(path)) if str(path) in SHIPPED and not Path(path).exists() else Path(path)
    if path.is_dir():
        path = path / HUB_FILE if (path / HUB_FILE).is_file() else _newest(path)
    if path.suffix == ".onnx":
        raise UserError(
            f"{path} is an exported network, which can only restore and evaluate: use the weights "
            "file that it was exported from"
        )
    try:
        state, record = _read_safetensors(path) if path.suffix == ".safetensors" else _read(path)
    except FileNotFoundError as error:
        raise UserError(f"the weights file {path} does not exist: check the path") from error
    except UserError:
        raise
    except Exception as error:  # the readers raise many types for damaged files
        raise UserError(
            f"{path} is not a weights file, is damaged, or contains code: download it again from "
            "its publisher"
        ) from error
    try:
        published = is_official(state)
        model = build(from_official(state) if published else state)
        if published and not record:
            crop = _PUBLISHED_CROP.get(model.size.width, 256)
            return Weights(model, Info(crop=crop, license=PUBLISHED_LICENSE), path)
        return Weights(model, Info.of(record), path)
    except Exception as error:  # tensors of other networks fail in many ways
        reason = " ".join(str(error).split())[:400]
        raise UserError(f"{path} does not contain the weights of an MPRNet: {reason}") from error


def save(model: MPRNet, path: str | Path, info: Info | None = None) -> None:
    """Write a network and its metadata to a file atomically.

    Args:
        model: network to write.
        path: file to write or replace. The suffix selects the format: ``.safetensors`` stores the
            shared PReLU once, ``.pth`` uses the published parameter names, and ``.ckpt`` the names
            of this package.
        info: metadata; the default values of :class:`Info` if ``None``.

    Raises:
        UserError: the suffix is unknown, or the file can't be written.
    """
    require("model", model, MPRNet, "an MPRNet")
    require("path", path, (str, Path), "the path of a weights file")
    path, info = Path(path), info or Info()
    require("info", info, Info, "an Info")
    record = info.record(model.size)
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    if path.suffix == ".safetensors":
        once = {name: t for name, t in state.items() if not name.endswith(ACTIVATION)}
        once[ACTIVATION] = next(t for name, t in state.items() if name.endswith(ACTIVATION))
        metadata = {name: json.dumps(value) for name, value in record.items()}
        metadata |= {RECORD: json.dumps({"format": FORMAT}), "format": "pt"}  # key of safetensors
        write_atomic(path, safetensors.torch.save(once, metadata))
    elif path.suffix in SUFFIXES:
        if path.suffix == ".pth":
            named = to_official(state, model.size.cabs_per_orb)
        else:
            named = {f"{_PREFIX}{name}": tensor for name, tensor in state.items()}
        buffer = BytesIO()
        torch.save({"state_dict": named, RECORD: record}, buffer)
        write_atomic(path, buffer.getbuffer())
    else:
        raise UserError(f"the suffix of {path} must be one of {', '.join(SUFFIXES)}")


def _newest(folder: Path) -> Path:
    """Return the best checkpoint of the newest run in a folder."""
    found = list(folder.glob("**/checkpoints/best.ckpt"))
    if not found:
        raise UserError(
            f"the folder {folder} has no runs with checkpoints/best.ckpt: check the path"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict and the metadata, which is empty for published files."""
    content: Any = read_tensors(path)
    state = content.get("state_dict", content)
    record = content.get(RECORD, {})
    check_format(path, record)
    if not all(isinstance(tensor, Tensor) and is_plain(tensor) for tensor in state.values()):
        raise TypeError("not a state dict")
    if record and not is_official(state):  # skip the tensors of losses and metrics
        state = {n.removeprefix(_PREFIX): t for n, t in state.items() if n.startswith(_PREFIX)}
    return state, dict(record)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict and the known metadata."""
    require_regular_file(path)
    with safe_open(path, framework="pt") as file:
        known = {f.name for f in fields(Info)} | {OLD_LICENSE}
        metadata = file.metadata() or {}
        check_format(path, json.loads(metadata.get(RECORD, "{}")))
        record = {n: json.loads(v) for n, v in metadata.items() if n in known}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if ACTIVATION in state:
        shared = state.pop(ACTIVATION)
        blocks = [n.removesuffix("conv1.weight") for n in state if n.endswith(".conv1.weight")]
        state |= {block + ACTIVATION: shared for block in blocks}
    return state, record
