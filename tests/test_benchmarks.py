"""Benchmarks: plain baseline and golden data of MPRNet, GPU benchmark, and folders of sets."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import gpu, real, scale
from benchmarks.baseline import PlainMPRNet, plain_loss
from benchmarks.network import our_step, pad_channels
from benchmarks.report import MARK
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.models import SIZES, MPRNet, Size
from mprnet_lit.models.stages import ORB, Decoder, Encoder
from mprnet_lit.weights.official import from_official
from mprnet_lit.weights.shapes import build
from tests.conftest import Golden


def test_plain_baseline_agrees_with_the_reference(golden: Golden) -> None:
    model = build(from_official(golden.weights))
    plain = PlainMPRNet(model.size)
    plain.load_state_dict(model.state_dict())
    stages = plain(golden.tensor("input"))
    for number, output in enumerate(stages, start=1):
        torch.testing.assert_close(output, golden.tensor(f"stage{number}"), rtol=0, atol=1e-5)
    for edge_weight, name in ((0.05, "loss_deblur"), (0.0, "loss_char_clamped_sum")):
        loss = plain_loss(stages, golden.tensor("target"), edge_weight).item()
        assert loss == pytest.approx(float(golden.arrays[name]), abs=1e-5)


def test_gpu_benchmark_needs_a_gpu_and_a_reference_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="needs a CUDA device, and torch finds none"):
        gpu.main()
    monkeypatch.setattr(sys, "argv", ["gpu", "--device=cpu", f"--reference={tmp_path}"])
    with pytest.raises(SystemExit, match=r"has no Denoising/MPRNet\.py"):
        gpu.main()


def test_gpu_benchmark_measures_a_reference_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trial run, in which the plain baseline stands for the code of a checkout."""
    (tmp_path / "Denoising").mkdir()
    (tmp_path / "Denoising" / "MPRNet.py").write_text(
        "from benchmarks.baseline import PlainMPRNet\n"
        "from mprnet_lit.models import Size\n"
        "class MPRNet(PlainMPRNet):\n"
        "    def __init__(self, n_feat, scale_unetfeats, scale_orsnetfeats, num_cab, reduction):\n"
        "        super().__init__(\n"
        "            Size(n_feat, scale_unetfeats, scale_orsnetfeats, num_cab, reduction))\n"
        "    def forward(self, x):\n"
        "        return list(super().forward(x))[::-1]\n"
    )
    output = tmp_path / "gpu.json"
    arguments = ["--device=cpu", "--quick", "--no-compile", f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments, f"--reference={tmp_path}"])
    gpu.main()
    record = json.loads(output.read_text())
    assert record["reference"] == "reference implementation"
    step, inference, folder, loop = record["tables"].values()
    assert step.keys() == {
        *("reference", "bf16", "bf16, checkpointing", "bf16, CUDA graph", "bf16, padded channels")
    }
    assert record["versions"]["torch"] == torch.__version__
    assert inference["reference"]["speedup"] == 1 and inference["bf16"]["median_ms"] > 0
    assert folder["photos_per_second"] > 0 and loop["share"] > 0


def test_channels_are_padded_to_multiples_of_16() -> None:
    assert pad_channels(SIZES["small"]) == Size(48, 16, 16, 8)  # 48, 64, 80 and 64 channels
    assert pad_channels(SIZES["tiny"]) == Size(16, 16, 16, 2)
    for name in ("base", "large"):
        assert pad_channels(SIZES[name]) == SIZES[name]


def test_variants_of_compiled_regions_differ_in_the_resampling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[type] = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **_: compiled.append(type(module))
    )
    our_step("tiny", (1, 3, 16, 16), "cpu", compiled=True, resampling=True)
    assert {kind: compiled.count(kind) for kind in compiled} == {Encoder: 2, Decoder: 2, ORB: 3}
    compiled.clear()
    our_step("tiny", (1, 3, 16, 16), "cpu", compiled=True)
    assert compiled.count(ORB) == 3 and not {Encoder, Decoder} & {*compiled}


def test_failed_variant_has_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Any:
        raise torch.OutOfMemoryError("no memory")

    tables: dict[str, Any] = {}
    makers = {"reference": lambda: int, "large": fail, "other": lambda: int}
    gpu.run_table(tables, torch.device("cpu"), 2, "steps", makers)
    assert tables["steps"].keys() == {"reference", "other"}
    assert "steps, large, failed: no memory" in capsys.readouterr().err
    with pytest.raises(torch.OutOfMemoryError):
        gpu.run_table(tables, torch.device("cpu"), 2, "steps", {"reference": fail})


def test_folders_of_sets_are_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The scores of a network that returns its input follow from the pixels."""
    model = MPRNet(4, 0, 0, 1)
    model.start_from_identity()
    weights.save(model, tmp_path / "net.safetensors")
    clean = np.random.default_rng(3).integers(60, 190, (24, 32, 3), dtype=np.uint8)
    for name in ("Rain_set/input", "Rain_set/target", "photos"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    for number, levels in enumerate((10, 20)):
        for kind, image in (("input", clean + np.uint8(levels)), ("target", clean)):
            Image.fromarray(image).save(tmp_path / "sets" / "Rain_set" / kind / f"{number}.png")
    Image.fromarray(clean).save(tmp_path / "sets" / "photos" / "a.png")

    (tmp_path / "out.md").write_text(
        "\n".join(MARK.format(mark) for mark in ("real", "end of real"))
    )
    chosen = [f"{task}={tmp_path}/net.safetensors" for task in ("derain", "denoise")]
    output = ["--output", f"{tmp_path}/out.json", "--weights", *chosen]
    monkeypatch.setattr(sys, "argv", ["real", f"{tmp_path}/sets", *output])
    real.main()
    pairs, unchanged, noisy = json.loads((tmp_path / "out.json").read_text())["real"]
    assert [r["title"] for r in (pairs, unchanged, noisy)] == [
        *("Rain_set", "photos, clean", "photos, sigma 25")
    ]
    each = [20 * np.log10(255 / levels) for levels in (10, 20)]
    for state in ("degraded", "restored"):
        assert pairs[state]["psnr"] == pytest.approx(np.mean(each), abs=1e-3)
        assert unchanged[state] == {"psnr": 100, "ssim": 1}
    assert pairs["worst"] == {"image": "1", "psnr": pytest.approx(each[1], abs=1e-3)}
    assert pairs["images"] == 2 and pairs["lowered"] == 0
    noise = np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32) * 25
    error = (clean + noise).clip(0, 255).round() - clean
    expected = 10 * np.log10(255**2 / np.mean(error**2))
    assert noisy["restored"]["psnr"] == pytest.approx(expected, abs=1e-3)
    table = (tmp_path / "out.md").read_text()
    assert "| Rain_set | derain | 2 | 25.12 / " in table and "| photos, clean |" in table

    for kind in ("input", "target"):
        shutil.copytree(tmp_path / "sets" / "photos", tmp_path / "sets" / "own" / kind)
    with pytest.raises(SystemExit, match=r"own does not begin with .* rename it to derain_own"):
        real.main()


def test_table_of_scale_has_both_versions_and_keeps_other_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(part: str, size: int, checkout: Path) -> dict[str, float]:
        return {"s": size / 1000 if checkout == tmp_path else size / 2000, "MB": 1234.5}

    document = tmp_path / "performance.md"
    marks = (MARK.format("scale"), MARK.format("end of scale"))
    document.write_text("Before\n{}\n{}\nAfter".format(*marks))
    monkeypatch.setattr(scale, "_DOCUMENT", document)
    monkeypatch.setattr(scale, "_measure", measure)
    (tmp_path / "src" / "mprnet_lit").mkdir(parents=True)
    for arguments in (["serving"], ["reports", f"--before={tmp_path}"]):
        monkeypatch.setattr(sys, "argv", ["scale", *arguments])
        scale.main()
    text = document.read_text()
    for argument, message in (
        ("restore", "unknown: restore; choose from data_folders"),
        (f"--before={tmp_path / 'missing'}", "missing has no folder src/mprnet_lit"),
    ):
        monkeypatch.setattr(sys, "argv", ["scale", argument])
        with pytest.raises(SystemExit):
            scale.main()
        assert message in capsys.readouterr().err
    assert "| s | 0.05 → 0.025 | 0.5 → 0.25 | 2.5 |" in text
    assert "| MB | 1,234 → 1,234 | 1,234 → 1,234 | 1,234 |" in text
    assert "**The page with the packaged denoiser" in text
    assert text.startswith("Before\n") and text.endswith("\nAfter")
