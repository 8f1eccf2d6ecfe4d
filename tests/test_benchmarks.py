"""Baseline of the benchmarks compared with the golden data of MPRNet, and the GPU benchmark."""

import json
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import gpu
from benchmarks.baseline import PlainMPRNet, plain_loss

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
    assert step.keys() == {"reference", "bf16", "bf16, checkpointing"}
    assert inference["reference"]["speedup"] == 1 and inference["bf16"]["median_ms"] > 0
    assert folder["photos_per_second"] > 0 and loop["share"] > 0
