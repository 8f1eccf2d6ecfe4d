"""Shipped weights evaluated on held-out photographs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.classical import METHODS
from benchmarks.shipped import CASES, degrade
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from tests.conftest import PHOTOS, Cli
from tools import ship

from mprnet_lit import Restorer, metrics, weights
from mprnet_lit.data.degradations import CameraNoise
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights.shipped import shipped

HELD_OUT = ("chelsea.png", "coffee.png", "rocket.jpg")


def psnr(image: NDArray[Any], target: Any) -> Any:
    both = [torch.from_numpy(np.float32(x)).permute(2, 0, 1)[None] for x in (image, target)]
    return metrics.psnr(*both).item()


@pytest.mark.parametrize(
    ("key", "least"),
    [("sigma15", 5), ("sigma25", 7), ("sigma50", 9), ("camera", 3), ("blur", 1), ("rain", 4)],
)
def test_psnr_gain_on_held_out_photographs(key: str, least: int) -> None:
    restorer, gains = Restorer(CASES[key].task, device="cpu"), []
    for number, name in enumerate(HELD_OUT):
        photo = np.asarray(Image.open(PHOTOS / name).convert("RGB").crop((150, 80, 278, 208))) / 255
        for draw in range(2):
            degraded, _ = degrade(key, photo, np.random.default_rng([number, draw]))
            gains.append(psnr(restorer(degraded), photo) - psnr(degraded.clip(0, 1), photo))
    assert np.mean(gains) > least, gains


@pytest.mark.parametrize(
    ("name", "options"), [("photo.png", {}), ("photo.jpg", {"quality": 92, "subsampling": "4:2:0"})]
)
def test_restore_uses_the_shipped_weights_by_default(
    cli: Cli, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    crop = Image.open(PHOTOS / "coffee.png").crop((100, 100, 300, 280))
    target = np.asarray(crop) / 255
    noisy = CameraNoise(shot=6e-3)(target.astype(np.float32), np.random.default_rng(0))
    Image.fromarray((noisy * 255).round().astype(np.uint8)).save(tmp_path / name, **options)
    outcome = cli("mode=restore", "task=denoise", f"input={name}", "output=restored")
    assert "weights in the package; for another task, add task=deblur or derain" in outcome.output
    before, after = (
        np.asarray(Image.open(tmp_path / path)) / 255 for path in (name, f"restored/{name}")
    )
    assert psnr(after, target) > psnr(before, target) + 4


@pytest.mark.parametrize("name", ["deblur", "denoise", "derain"])
def test_metadata_of_the_shipped_files(name: str) -> None:
    path = shipped(name)
    assert path.stat().st_size < 2e6
    read = weights.read(name)
    assert read.path == path and read.info.task == name and read.info.license == "Apache-2.0"
    assert read.info.crop == read.info.config["data"]["patch_size"]
    assert read.info.change is not None and 10 < read.info.change < 100
    with safe_open(path, "pt") as file:
        text = json.dumps(file.metadata())
    assert not re.search(r"(?<![\w*.])/\w", text), "the metadata has an absolute path"


def test_change_is_measured_with_the_recorded_degradation(tmp_path: Path) -> None:
    for k in range(2):
        Image.new("RGB", (40, 30), (90, 120, 140)).save(tmp_path / f"{k}.png")
    sigmas = {"_target_": "mprnet_lit.data.degradations.GaussianNoise", "sigma": [10, 30]}
    config = {"data": {"patch_size": 24, "degradation": sigmas}}
    # The mean absolute value of normal noise is sqrt(2 / pi) sigma.
    expected = np.sqrt(2 / np.pi) * np.quantile(np.linspace(10, 30, 1000), 0.99)
    assert ship.measured_change(config, tmp_path) == pytest.approx(expected, abs=1)


def test_existing_path_takes_precedence_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "denoise").mkdir()
    with pytest.raises(UserError, match="denoise has no runs"):
        weights.read("denoise")


def test_classical_deblurring_with_the_true_kernel_gains_psnr() -> None:
    photo = np.asarray(Image.open(PHOTOS / "coffee.png").crop((100, 100, 292, 292))) / 255
    blurred, known = degrade("blur", photo, np.random.default_rng(3))
    for name, method in METHODS["deblur"].items():
        best = max(psnr(method.run(blurred, s, known), photo) for s in method.strengths)
        assert best > psnr(blurred, photo) + 1, name
