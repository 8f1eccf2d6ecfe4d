"""Compatibility with artifacts of release 0.1 (see tests/fixtures/release_0_1/README.md)."""

import csv
import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mprnet_lit import Restorer, weights
from mprnet_lit.runs.folder import LAST
from mprnet_lit.training.checkpoints import read_checkpoint
from tests.conftest import Cli
from tests.reports.page_reading import embedded_data

RELEASE = Path(__file__).parent / "fixtures" / "release_0_1"
NETWORK = (
    "model.width=2", "model.unet_step=1", "model.orsnet_step=1", "model.cabs_per_orb=1",
    "model.reduction=2",
)  # fmt: skip
SIZES = ("data.patch_size=16", "data.val_crop_size=32", "data.num_workers=0")
GAUSSIAN, CAMERA, JPEG, COMPOSE = (
    f"_target_: mprnet_lit.data.degradations.{arguments}"
    for arguments in (
        "GaussianNoise, sigma: [0, 50]", "CameraNoise, shot: [1e-4, 1.2e-2]",
        "Jpeg, quality: [70, 100]", "Compose",
    )
)  # fmt: skip
CHOICES = (
    f"{{{GAUSSIAN}}}, {{{CAMERA}}}, {{{COMPOSE}, steps: [{{{GAUSSIAN}}}, {{{JPEG}}}]}}, "
    f"{{{COMPOSE}, steps: [{{{CAMERA}}}, {{{JPEG}}}]}}"
)
NOISE = (
    "task.degradation.weights=[2, 1, 1, 1]", f"task.degradation.choices=[{CHOICES}]",
    "data.patterns=null",
)  # fmt: skip
"""Denoising recipe of release 0.1."""
TRAIN = (
    "task=denoise", *NOISE, *NETWORK, *SIZES, "trainer=cpu", "data=clean",
    "data.train.folder=clean", "data.batch_size=2", "data.crops_per_image=2",
    "trainer.max_epochs=2", "optimizer.lr=2e-3", "schedule.per_step=true",
    "schedule.min_warmup_steps=0", "callbacks.panels.count=1",
)  # fmt: skip
"""Command that wrote ``run`` and ``stopped``."""


@pytest.fixture(autouse=True)
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the artifacts in the folder of the test."""
    shutil.copytree(RELEASE, tmp_path, dirs_exist_ok=True)
    for packed in tmp_path.rglob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pixels(path: Path) -> Any:
    return np.array(Image.open(path)).astype(int)


def state(folder: Path) -> Any:
    return read_checkpoint(folder / LAST)["state_dict"]


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(first[name], second[name]) for name in second)


def page(path: Path) -> Any:
    return embedded_data(path.read_text())


@pytest.fixture
def old_clamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clamp of release 0.1, which has no gradient outside [0, 1]."""
    monkeypatch.setattr("mprnet_lit.training.losses.base.clamp_unit", lambda x: x.clamp(0, 1))


def test_run_stopped_in_mid_epoch_resumes_to_the_same_weights(
    cli: Cli, old: Path, old_clamp: None
) -> None:
    stopped = ("resume=stopped", "hydra.run.dir=stopped", "module.compile=false")
    outcome = cli(*TRAIN, *stopped, "logger=none")
    assert f"{Path('stopped') / LAST} (epoch 1, step 8)" in outcome.output
    assert "changed:" not in outcome.output
    cli(*TRAIN, "hydra.run.dir=again", "logger=none")

    # Another CPU may round differently, which also changes a training from scratch.
    stored, resumed = state(old / "run"), state(old / "stopped")
    torch.testing.assert_close(resumed, stored, rtol=0, atol=1e-5)
    assert same(resumed, stored) == same(state(old / "again"), stored)
    found, expected = (
        json.loads((old / name / "summary.json").read_text()) for name in ("stopped", "run")
    )
    assert found.keys() - expected.keys() == {
        "parameters",
        *(f"saturated_stage{k}" for k in (1, 2, 3)),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-3)


def test_stopped_run_is_found_by_its_configuration(cli: Cli, old: Path, old_clamp: None) -> None:
    folder = Path("runs/denoise/2026-11-26_14-16-36-000000")
    shutil.move(old / "stopped", old / folder)
    outcome = cli(*TRAIN, "resume=auto", "logger=none")
    assert f"{folder / LAST} (epoch 1, step 8)" in outcome.output
    torch.testing.assert_close(state(old / folder), state(old / "run"), rtol=0, atol=1e-5)


def test_complete_run_is_trained_longer(cli: Cli, old: Path) -> None:
    longer = ("trainer.max_epochs=3", "logger=csv")
    outcome = cli(*TRAIN, *longer, "resume=run", "hydra.run.dir=run")
    assert f"{Path('run') / LAST} (epoch 2, step 10)" in outcome.output
    assert read_checkpoint(old / "run" / LAST)["global_step"] == 15
    cli("mode=report", "input=run", "output=report.html")
    (trial,) = page(old / "report.html")["trials"]
    assert len(trial["curves"]["val/psnr"][-1]) == 3


@pytest.mark.parametrize(
    "name",
    ["run", "run/checkpoints/best.ckpt", "converted.safetensors", "converted.pth", "network.onnx"],
)
def test_restored_image_has_the_same_pixels(cli: Cli, old: Path, name: str) -> None:
    cli("mode=restore", f"weights={name}", "input=noisy/0.png", "output=restored.png")
    expected = pixels(old / "expected.png")
    np.testing.assert_allclose(pixels(old / "restored.png"), expected, atol=1)
    by_library = Restorer(name)(np.array(Image.open(old / "noisy" / "0.png")))
    np.testing.assert_allclose(by_library.astype(int), expected, atol=1)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_image_is_restored_with_the_int8_network(
    cli: Cli, old: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    """The CPU may lack instructions for int8, without which sums of products overflow."""
    if runtime == "onnxruntime":
        monkeypatch.setitem(sys.modules, "openvino", None)
    cli("mode=restore", "weights=int8.onnx", "input=noisy/0.png", "output=restored.png")
    found, expected = pixels(old / "restored.png"), pixels(old / "expected_int8.png")
    np.testing.assert_allclose(found, expected, atol=3)


def test_weights_keep_their_metadata(old: Path) -> None:
    checkpoint, *converted = (
        weights.read(name) for name in ("run", "converted.safetensors", "converted.pth")
    )
    assert (checkpoint.info.task, checkpoint.info.crop) == ("denoise", 16)
    stored = json.loads((old / "run" / "summary.json").read_text())
    assert checkpoint.info.metrics["val/psnr"] == pytest.approx(stored["psnr"])
    for other in converted:
        assert (other.info.task, other.info.metrics) == ("denoise", checkpoint.info.metrics)
        assert same(other.model.state_dict(), checkpoint.model.state_dict())


def test_checkpoint_is_converted_exported_and_fine_tuned(cli: Cli, old: Path) -> None:
    cli("mode=convert", "weights=run", "output=again.safetensors")
    again, stored = (weights.load(name) for name in ("again.safetensors", "converted.safetensors"))
    assert same(again.state_dict(), stored.state_dict())
    outcome = cli(
        "experiment=finetune", "data=clean", "data.train.folder=clean", "task=denoise", *NETWORK,
        *SIZES, "weights=run", "trainer.max_epochs=1", "logger=none", "hydra.run.dir=tuned",
    )  # fmt: skip
    assert "epoch 1/1" in outcome.output


def test_training_from_the_store_equals_training_from_its_images(cli: Cli, old: Path) -> None:
    assert (
        "all 6 files of store are intact"
        in cli("mode=prepare", "prepare.verify=true", "output=store").output
    )
    options = (*TRAIN, "trainer.max_epochs=1", "trainer.limit_val_batches=0", "logger=none")
    cli(*options, "data=prepared", "data.train.folder=store", "hydra.run.dir=from_store")
    cli(*options, "hydra.run.dir=from_images")
    assert same(state(old / "from_store"), state(old / "from_images"))


def test_report_of_a_run_is_written(cli: Cli, old: Path) -> None:
    outcome = cli("mode=report", "input=run", "output=report.html")
    assert "Warning" not in outcome.errors
    (trial,) = page(old / "report.html")["trials"]
    expected = json.loads((old / "run" / "summary.json").read_text())
    assert (trial["state"], trial["notes"]) == ("complete", [])
    assert trial["psnr"] == pytest.approx(expected["psnr"], abs=1e-4)


def test_report_of_a_sweep_is_written(cli: Cli, old: Path) -> None:
    outcome = cli("mode=report", "input=sweep", "output=report.html")
    assert "Warning" not in outcome.errors
    data = page(old / "report.html")
    assert data["keys"] == ["optimizer.lr"]
    expected = [
        json.loads((old / "sweep" / job / "summary.json").read_text())["psnr"] for job in "01"
    ]
    assert [(t["state"], t["notes"]) for t in data["trials"]] == [("complete", [])] * 2
    assert [t["psnr"] for t in data["trials"]] == pytest.approx(expected, abs=1e-4)


def test_evaluation_gives_the_same_scores(cli: Cli, old: Path) -> None:
    cli("evaluate", "noisy", "sharp", "weights=run", "hydra.run.dir=again")
    tables = []
    for name in ("evaluation", "again"):
        with (old / name / "scores.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    for stored, found in zip(*tables, strict=True):
        assert found["name"] == stored.pop("name")
        for column, value in stored.items():
            assert float(found[column]) == pytest.approx(float(value), abs=1e-3), column
    stored, found = (
        json.loads((old / n / "scores.json").read_text()) for n in ("evaluation", "again")
    )
    assert found["means"] == pytest.approx(stored["means"], abs=1e-3)
