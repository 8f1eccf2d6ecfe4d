"""Weights files: every format into every other, and what must be refused."""

import os
import pickle
from dataclasses import asdict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mprnet_lit import weights
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info

INFO = Info(
    "derain", 128, "CC0", metrics={"val/psnr": 31.5}, config={"seed": 3, "data": {"folder": None}}
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 2)


def equal(one, other):
    state, expected = one.state_dict(), other.state_dict()
    return state.keys() == expected.keys() and all(
        torch.equal(state[n], expected[n]) for n in state
    )


@pytest.mark.parametrize("first", weights.io.SUFFIXES)
@pytest.mark.parametrize("second", weights.io.SUFFIXES)
def test_each_format_turns_into_each_and_keeps_all(model, tmp_path, first, second):
    weights.save(model, tmp_path / f"one{first}", INFO)
    read = weights.read(tmp_path / f"one{first}")
    weights.save(read.model, tmp_path / f"two{second}", read.info)
    again = weights.read(tmp_path / f"two{second}")
    assert equal(again.model, model)
    assert again.info == INFO
    assert again.model.size == model.size
    assert not list(tmp_path.glob("*.part"))


def test_the_shared_prelu_is_stored_once_and_stays_shared(model, tmp_path):
    weights.save(model, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert [n for n in file.keys() if "activation" in n] == ["activation.weight"]  # noqa: SIM118
    loaded = weights.load(tmp_path / "w.safetensors")
    assert len({id(p) for n, p in loaded.named_parameters() if "activation" in n}) == 1
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [True, False])
def test_published_files_give_the_golden_outputs(golden, tmp_path, prefix, nested):
    state = {prefix + name: tensor for name, tensor in golden.weights.items()}
    torch.save({"epoch": 3, "state_dict": state} if nested else state, tmp_path / "w.pth")
    read = weights.read(tmp_path / "w.pth")
    restored = read.model(golden.tensor("input"))[-1]
    torch.testing.assert_close(restored, golden.tensor("stage3"), rtol=0, atol=1e-5)
    assert "non-commercial" in read.info.license
    assert read.info.crop == 256


class Boom:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_runs(model, tmp_path):
    trap = tmp_path / "ran"
    state = {f"model.{n}": t for n, t in model.state_dict().items()}
    torch.save({"state_dict": state, "x": Boom(str(trap))}, tmp_path / "a.ckpt")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Boom(str(trap))))
    (tmp_path / "c.safetensors").write_bytes(pickle.dumps(Boom(str(trap))))
    for name in ("a.ckpt", "b.pth", "c.safetensors"):
        with pytest.raises(UserError, match=f"{name} is not a weights file, is damaged, or wants"):
            weights.load(tmp_path / name)
    assert not trap.exists()


def test_lightnings_instantiator_hook_is_not_followed(model, tmp_path, monkeypatch):
    """CVE-2024-5452's kind: a checkpoint names the function that makes its hyperparameters."""
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


def test_damaged_and_foreign_files_say_what_is_wrong(model, tmp_path):
    for suffix in weights.io.SUFFIXES:
        path = tmp_path / f"cut{suffix}"
        weights.save(model, path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(UserError, match=rf"cut{suffix} is not a weights file, is damaged"):
            weights.load(path)

    def refusal(state):
        torch.save({"state_dict": state}, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth does not hold the weights of an MPRNet") as e:
            weights.load(tmp_path / "w.pth")
        return str(e.value)

    weights.save(model, tmp_path / "good.pth")
    good = torch.load(tmp_path / "good.pth", weights_only=True)["state_dict"]
    assert "there is no shallow1.0.weight" in refusal({"fc.weight": torch.ones(3)})
    assert "there is no tail.weight" in refusal(
        {n: t for n, t in good.items() if n != "tail.weight"}
    )
    more = refusal(good | {"extra.bias": torch.ones(1)})
    assert "1 weight is not known (extra.bias)" in more
    other = refusal(good | {"sam12.conv1.weight": torch.ones(4, 8, 1, 1)})
    assert "of another shape (sam1.to_features.weight (4x8x1x1, not 8x8x1x1))" in other
    nan = refusal(good | {"tail.weight": good["tail.weight"] * torch.nan})
    assert "1 weight is not finite (tail.weight)" in nan
    with pytest.raises(UserError, match="there is no weights file"):
        weights.load(tmp_path / "none.pth")
    with pytest.raises(UserError, match="is a folder without runs"):
        weights.load(tmp_path)


def test_what_others_say_in_a_safetensors_file_is_left_alone(model, tmp_path):
    state = {n: t.clone() for n, t in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors", {"format": "pt", "author": "someone"})
    assert equal(weights.load(tmp_path / "w.safetensors"), model)
    save_file(state, tmp_path / "w.safetensors", {"metrics": '{"val/psnr": "x"}'})
    with pytest.raises(UserError, match="metrics a mapping of names to numbers"):
        weights.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", weights.io.SUFFIXES)
def test_files_of_release_0_1_name_the_license_licence(model, tmp_path, suffix, monkeypatch):
    path = tmp_path / f"w{suffix}"
    record = Info.record

    def old_record(self, size):
        fields = record(self, size)
        return {"licence": fields.pop("license"), **fields}

    with monkeypatch.context() as patch:
        patch.setattr(Info, "record", old_record)
        weights.save(model, path, INFO)
    assert b"licence" in path.read_bytes()
    assert weights.read(path).info == INFO
    weights.save(model, path, weights.read(path).info)
    assert b"licence" not in path.read_bytes() and b"license" in path.read_bytes()


def test_the_old_name_of_the_license_is_deprecated():
    with pytest.warns(DeprecationWarning, match=r"use Info\.license"):
        assert INFO.licence == "CC0"


def test_a_folder_of_runs_means_the_newest(model, tmp_path):
    for age, run in enumerate(("new", "old")):
        path = tmp_path / run / "checkpoints" / "best.ckpt"
        weights.save(model, path, Info(run))
        os.utime(path, (1e9 - age, 1e9 - age))
    read = weights.read(tmp_path)
    assert read.info.task == "new" and read.path == tmp_path / "new" / "checkpoints" / "best.ckpt"


def test_an_unwritable_place_keeps_what_is_there(model, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"can't write .*w\.safetensors: No space left"):
        weights.save(model, path)
    assert path.read_bytes() == b"before"
    with pytest.raises(UserError, match=r"\.safetensors, \.ckpt, \.pth"):
        weights.save(model, tmp_path / "w.bin")
