"""``mode=export``, and inference with exported files."""

import io
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli, smallest_network

import mprnet_lit
from mprnet_lit import Restorer, weights
from mprnet_lit.export import check, to_onnx
from mprnet_lit.export.to_onnx import skip_passes
from mprnet_lit.inference.onnx_runtime import OnnxNetwork
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info, Weights

INFO = Info("denoise", 64, "CC0", metrics={"val/psnr": 30.0})


@pytest.fixture(scope="module")
def model() -> Any:
    return smallest_network()


@pytest.fixture(scope="module")
def exported(model: MPRNet, convert_once: None) -> Any:
    return to_onnx(Weights(model, INFO))


@pytest.fixture
def folder(tmp_path: Path, model: MPRNet, exported: Any) -> Path:
    (tmp_path / "w.onnx").write_bytes(exported)
    weights.save(model, tmp_path / "w.safetensors", INFO)
    Image.open(PHOTOS / "chelsea.png").crop((100, 50, 161, 93)).save(tmp_path / "cat.png")
    return tmp_path


@pytest.mark.parametrize("runtime", ["OpenVINO", "onnxruntime"])
def test_exported_file_matches_the_network_at_any_image_size(
    model: MPRNet, folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    if runtime == "onnxruntime":
        monkeypatch.setitem(sys.modules, "openvino", None)
    network = OnnxNetwork(folder / "w.onnx")
    assert network.runtime == runtime
    for shape in ((1, 3, 16, 16), (3, 3, 40, 104), (1, 3, 200, 64)):
        x = torch.rand(shape)
        with torch.no_grad():
            torch.testing.assert_close(network(x)[0], model(x)[-1], rtol=0, atol=1e-4)
    assert network.info == INFO and network.size == model.size
    graph = onnx.load(folder / "w.onnx", load_external_data=False)
    assert graph.opset_import[0].version == 18
    assert not any(w.data_location == TensorProto.EXTERNAL for w in graph.graph.initializer)
    assert [len(graph.graph.input), len(graph.graph.output)] == [1, 1]
    content = (folder / "w.onnx").read_bytes()
    for path in (Path(mprnet_lit.__file__).parent, Path(torch.__file__).parent):
        assert os.fsencode(path) not in content


def test_openvino_bfloat16_is_close_to_float32(model: MPRNet, folder: Path) -> None:
    x = torch.rand(1, 3, 48, 64)
    network = OnnxNetwork(folder / "w.onnx", bf16=True)
    with torch.no_grad():
        difference = (network(x)[0] - model(x)[-1]).abs().max()
    settings = Restorer(folder / "w.onnx", precision="bf16").settings
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert 1e-5 < difference < 2e-2
        assert (settings["precision"], settings["device"]) == ("bf16", "cpu, OpenVINO")
    else:  # OpenVINO ignores the setting
        assert difference < 1e-5
        assert settings["precision"] == "32"
        assert settings["device"].endswith("because this CPU has no bfloat16 instructions")


def test_int8_file_with_excessive_psnr_loss_is_not_written(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mprnet_lit.cli.export._MAX_LOSS", -1.0)
    (folder / "photos").mkdir()
    for number in range(3):
        photo = Image.open(PHOTOS / "coffee.png").crop((128 * number, 100, 128 * (number + 1), 228))
        photo.save(folder / "photos" / f"{number}.png")
    own = ("data=clean", "data.train.folder=photos")
    arguments = ("mode=export", "weights=w.safetensors", "output=i8.onnx", "export.int8=true")
    assert "no file was written" in error_message(cli(*arguments, *own, status=1))
    assert not (folder / "i8.onnx").exists()


def test_in_place_addition_is_converted_without_tracing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class InPlace(torch.nn.Module):
        def forward(self, degraded: torch.Tensor, viewed: bool) -> torch.Tensor:
            changed = degraded * 2
            view = changed.view(-1) if viewed else None
            added = changed.add_(1)
            return added - changed if view is None else view

    def decompose(*_: Any) -> Any:
        raise AssertionError("the program is traced again")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", decompose)
    monkeypatch.setattr(torch.fx.Interpreter, "run", decompose)
    program, viewed = (
        torch.export.export(InPlace(), (torch.rand(2, 3), viewed)) for viewed in (False, True)
    )
    skip_passes(program)
    converted = torch.onnx.export(program, verbose=False)
    assert converted is not None
    assert [node.op_type for node in converted.model_proto.graph.node] == ["Mul", "Add", "Sub"]
    with pytest.raises(AssertionError, match="mul has a view that add_ changes"):
        skip_passes(viewed)


def test_exported_file_with_wrong_output_is_not_written(model: MPRNet) -> None:
    with pytest.raises(UserError, match=r"differs from the original by 1\.0e-03"):
        check(lambda x: model(x)[-1] + 1e-3, model)


def test_restoring_with_the_exported_file_matches_the_weights(cli: Cli, folder: Path) -> None:
    options = ("inference.tile=48", "inference.self_ensemble=true")
    arguments = ("mode=restore", "input=cat.png", *options)
    cli(*arguments, "weights=w.onnx", "output=by_onnx.png")
    cli(*arguments, "weights=w.safetensors", "output=by_torch.png")
    assert "last stage only" in error_message(
        cli(*arguments, "weights=w.onnx", "output=s.png", "restore.stages=true", status=1)
    )
    found, expected = (
        np.array(Image.open(folder / f"by_{runtime}.png")).astype(int)
        for runtime in ("onnx", "torch")
    )
    assert found.shape == (43, 61, 3)
    np.testing.assert_allclose(found, expected, atol=1)


def test_int8_is_calibrated_and_close_to_float32(cli: Cli, folder: Path) -> None:
    outcome = cli(
        "mode=export", "weights=w.safetensors", "output=i8.onnx", "export.int8=true",
        "data.crops_per_image=1",
    )  # fmt: skip
    found = re.search(r"([+-][\d.]+) dB lost", outcome.output)
    assert found is not None
    loss = float(found[1])
    assert abs(loss) < 0.05
    assert len(re.findall(r"checked .* differs from torch by at most \d", outcome.output)) == 3
    kinds = {node.op_type for node in onnx.load(folder / "i8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    Restorer(folder / "i8.onnx")(np.zeros((17, 9, 3), np.uint8))


def test_torch_program_matches_the_network(
    cli: Cli, folder: Path, model: MPRNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = torch.export.load
    loaded: dict[bytes, Any] = {}

    def recorded(file: Any) -> Any:  # loading takes five seconds
        content = file.getvalue()
        loaded[content] = load(io.BytesIO(content))
        return loaded[content]

    monkeypatch.setattr(torch.export, "load", recorded)
    outcome = cli("mode=export", "weights=w.safetensors", "output=w.pt2")
    assert "differs from torch by at most" in outcome.output
    program = loaded[(folder / "w.pt2").read_bytes()].module()
    x = torch.rand(1, 3, 24, 88)
    with torch.no_grad():
        torch.testing.assert_close(program(x), model(x)[-1], rtol=0, atol=1e-5)


def test_foreign_onnx_files_are_refused(
    folder: Path, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "cut.onnx").write_bytes(exported[:-2000])
    node = helper.make_node("Identity", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    other = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))
    other.metadata_props.extend(onnx.load_from_string(exported).metadata_props)
    (folder / "other.onnx").write_bytes(other.SerializeToString())
    record = onnx.load_from_string(exported)
    del record.metadata_props[:]
    record.metadata_props.add(key="mprnet_lit", value=json.dumps({"size": asdict(Info())}))
    (folder / "odd.onnx").write_bytes(record.SerializeToString())
    for name in ("cut", "other", "odd"):
        with pytest.raises(UserError, match=rf"{name}\.onnx is not an export of this package"):
            Restorer(folder / f"{name}.onnx")
    with pytest.raises(UserError, match=r"the file .* does not exist"):
        Restorer(folder / "none.onnx")
    with pytest.raises(UserError, match="tlc=True is not supported for the exported network"):
        Restorer(folder / "w.onnx", tlc=True)
    with pytest.raises(UserError, match="precision=16 is not supported for the exported network"):
        Restorer(folder / "w.onnx", precision="16")
    with pytest.raises(UserError, match="can only restore and evaluate"):
        weights.load(folder / "w.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install -e '.*\[openvino\]'"):
        Restorer(folder / "w.onnx", precision="bf16")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install -e '.*\[onnx\]'"):
        Restorer(folder / "w.onnx")


def test_int8_calibration_of_another_task_is_refused(cli: Cli, folder: Path, model: MPRNet) -> None:
    weights.save(model, folder / "deblur.safetensors", Info("deblur", 64))
    arguments = ("mode=export", "weights=deblur.safetensors", "output=i8.onnx", "export.int8=true")
    assert "add task=deblur" in error_message(cli(*arguments, status=1))
    assert not (folder / "i8.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("output=a.bin",), "output=a.bin must end in .onnx"),
        (("output=a.pt2", "export.int8=true"), "export.int8=true requires an .onnx file"),
        (("output=w.onnx",), "w.onnx already exists"),
        ((), "output is not set"),
    ],
)
def test_user_errors_name_the_invalid_value(
    cli: Cli, folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    message = error_message(cli("mode=export", "weights=w.safetensors", *arguments, status=1))
    assert sentence in message
