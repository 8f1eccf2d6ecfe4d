"""Weights files: conversion between all formats, and rejection of invalid files."""

import os
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tests.conftest import Golden

from mprnet_lit import weights
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info, read
from mprnet_lit.weights.shapes import build

INFO = Info(
    "derain", 128, "CC0", metrics={"val/psnr": 31.5}, config={"seed": 3, "data": {"folder": None}}
)


@pytest.fixture
def model() -> MPRNet:
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 2)


def equal(one: Any, other: Any) -> Any:
    state, expected = one.state_dict(), other.state_dict()
    return state.keys() == expected.keys() and all(
        torch.equal(state[n], expected[n]) for n in state
    )


@pytest.mark.parametrize("first", weights.io.SUFFIXES)
@pytest.mark.parametrize("second", weights.io.SUFFIXES)
def test_conversion_between_all_formats_keeps_weights_and_metadata(
    model: MPRNet, tmp_path: Path, first: Any, second: Any
) -> None:
    weights.save(model, tmp_path / f"one{first}", INFO)
    read = weights.read(tmp_path / f"one{first}")
    weights.save(read.model, tmp_path / f"two{second}", read.info)
    again = weights.read(tmp_path / f"two{second}")
    assert equal(again.model, model)
    assert again.info == INFO
    assert again.model.size == model.size
    assert not list(tmp_path.glob("*.part"))


def test_shared_prelu_is_stored_once_and_stays_shared(model: MPRNet, tmp_path: Path) -> None:
    weights.save(model, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert [n for n in file.keys() if "activation" in n] == ["activation.weight"]  # noqa: SIM118
    loaded = weights.load(tmp_path / "w.safetensors")
    assert len({id(p) for n, p in loaded.named_parameters() if "activation" in n}) == 1
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [True, False])
def test_published_files_reproduce_the_golden_outputs(
    golden: Golden, tmp_path: Path, prefix: str, nested: bool
) -> None:
    state = {prefix + name: tensor for name, tensor in golden.weights.items()}
    torch.save({"epoch": 3, "state_dict": state} if nested else state, tmp_path / "w.pth")
    read = weights.read(tmp_path / "w.pth")
    restored = read.model(golden.tensor("input"))[-1]
    torch.testing.assert_close(restored, golden.tensor("stage3"), rtol=0, atol=1e-5)
    assert "non-commercial" in read.info.license
    assert read.info.crop == 256


class Exploit:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_never_executed(model: MPRNet, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    state = {f"model.{n}": t for n, t in model.state_dict().items()}
    torch.save({"state_dict": state, "x": Exploit(str(trap))}, tmp_path / "a.ckpt")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Exploit(str(trap))))
    (tmp_path / "c.safetensors").write_bytes(pickle.dumps(Exploit(str(trap))))
    for name in ("a.ckpt", "b.pth", "c.safetensors"):
        with pytest.raises(
            UserError, match=f"{name} is not a weights file, is damaged, or contains code"
        ):
            weights.load(tmp_path / name)
    assert not trap.exists()


def test_instantiator_of_a_lightning_checkpoint_is_not_called(
    model: MPRNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint can name a function that creates its hyperparameters, as in CVE-2024-5452."""
    called = []
    monkeypatch.setattr(os, "getlogin", lambda *a, **k: called.append(a))
    hyper = {"_instantiator": "os.getlogin", "path": "x"}
    torch.save(
        {
            "state_dict": {f"model.{n}": t for n, t in model.state_dict().items()},
            "mprnet_lit": {"size": asdict(model.size)},
            "hyper_parameters": hyper,
            "hparams_name": "kwargs",
            "datamodule_hyper_parameters": hyper,
        },
        tmp_path / "w.ckpt",
    )
    assert equal(weights.load(tmp_path / "w.ckpt"), model)
    assert not called


def test_messages_name_the_problem_of_damaged_and_foreign_files(
    model: MPRNet, tmp_path: Path
) -> None:
    for suffix in weights.io.SUFFIXES:
        path = tmp_path / f"cut{suffix}"
        weights.save(model, path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(UserError, match=rf"cut{suffix} is not a weights file, is damaged"):
            weights.load(path)

    def message(state: Any) -> str:
        torch.save({"state_dict": state}, tmp_path / "w.pth")
        with pytest.raises(
            UserError, match=r"w\.pth does not contain the weights of an MPRNet"
        ) as raised:
            weights.load(tmp_path / "w.pth")
        return str(raised.value)

    weights.save(model, tmp_path / "good.pth")
    good = torch.load(tmp_path / "good.pth", weights_only=True)["state_dict"]
    assert "the parameter shallow1.0.weight is missing" in message({"fc.weight": torch.ones(3)})
    assert "the parameter tail.weight is missing" in message(
        {n: t for n, t in good.items() if n != "tail.weight"}
    )
    more = message(good | {"extra.bias": torch.ones(1)})
    assert "1 parameter is unexpected (extra.bias)" in more
    other = message(good | {"sam12.conv1.weight": torch.ones(4, 8, 1, 1)})
    assert "of another shape (sam1.to_features.weight (4x8x1x1, not 8x8x1x1))" in other
    nan = message(good | {"tail.weight": good["tail.weight"] * torch.nan})
    assert "1 parameter is not finite (tail.weight)" in nan
    with pytest.raises(UserError, match=r"the weights file .* does not exist"):
        weights.load(tmp_path / "none.pth")
    with pytest.raises(UserError, match="has no runs with"):
        weights.load(tmp_path)


def test_unknown_metadata_of_a_safetensors_file_is_ignored(model: MPRNet, tmp_path: Path) -> None:
    state = {n: t.clone() for n, t in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", {"format": "pt", "author": "someone"})
    assert equal(weights.load(tmp_path / "w.safetensors"), model)
    save_file(state, tmp_path / "w.safetensors", {"metrics": '{"val/psnr": "x"}'})
    with pytest.raises(UserError, match="metrics a mapping of names to numbers"):
        weights.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", weights.io.SUFFIXES)
def test_license_is_read_from_files_of_release_0_1(
    model: MPRNet, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"w{suffix}"
    record = Info.record

    def old_record(self: Any, size: Any) -> dict[str, Any]:
        fields = record(self, size)
        return {"licence": fields.pop("license"), **fields}

    with monkeypatch.context() as patch:
        patch.setattr(Info, "record", old_record)
        weights.save(model, path, INFO)
    assert b"licence" in path.read_bytes()
    assert weights.read(path).info == INFO
    weights.save(model, path, weights.read(path).info)
    assert b"licence" not in path.read_bytes() and b"license" in path.read_bytes()


def test_old_name_of_the_license_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"use Info\.license"):
        assert INFO.licence == "CC0"


def test_folder_of_runs_selects_the_newest_run(model: MPRNet, tmp_path: Path) -> None:
    for age, run in enumerate(("new", "old")):
        path = tmp_path / run / "checkpoints" / "best.ckpt"
        weights.save(model, path, Info(run))
        os.utime(path, (1e9 - age, 1e9 - age))
    read = weights.read(tmp_path)
    assert read.info.task == "new" and read.path == tmp_path / "new" / "checkpoints" / "best.ckpt"


def test_failed_write_keeps_the_existing_file(
    model: MPRNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"before")

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"can't write .*w\.safetensors: No space left"):
        weights.save(model, path)
    assert path.read_bytes() == b"before"
    with pytest.raises(UserError, match=r"\.safetensors, \.ckpt, \.pth"):
        weights.save(model, tmp_path / "w.bin")


def test_reading_weights_does_not_import_sympy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import would take half a second of each command."""
    monkeypatch.setitem(sys.modules, "torch.fx.experimental.symbolic_shapes", None)
    model = read("denoise").model
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("cpu", torch.float32)}


def test_the_network_has_its_own_copy_of_a_state() -> None:
    state = MPRNet(8, 4, 4, 1).state_dict()
    name = "shallow1.0.weight"
    built = build({key: tensor.half() if key == name else tensor for key, tensor in state.items()})
    for tensor in state.values():
        tensor.zero_()
    assert built.state_dict()[name].dtype == torch.float32
    assert all(tensor.any() for key, tensor in built.state_dict().items() if "weight" in key)
