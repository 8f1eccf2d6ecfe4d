"""Credentials and home folders are not written by training, conversion or reports."""

import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from tests.conftest import Cli

from mprnet_lit import weights
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.runs.settings import recorded
from mprnet_lit.weights.training_config import training_settings

CANARY = "c4n4ryXYZ"


def files_containing(folder: Path, text: str) -> list[str]:
    """Return the files that contain a text. Files of torch are not compressed."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in files if text.encode() in path.read_bytes()]


def test_files_of_a_training_contain_no_secrets(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "ann"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CANARY_VARIABLE", CANARY)
    cli(
        "trainer.max_epochs=1", "hydra.run.dir=runs/one", "trainer.log_every_n_steps=1",
        f"+api_key={CANARY}", "+task.same=${api_key}",
        "+task.note=${oc.env:CANARY_VARIABLE}", "+task.again=${task.note}",
        f"+tracking.address=https://user:{CANARY}@host/x", f"+task.link='http://h/?token={CANARY}'",
        f"+task.file={home}/x.bin", f"tracking.tags=['password={CANARY}']",
    )  # fmt: skip
    folder = tmp_path / "runs" / "one"
    assert files_containing(tmp_path, CANARY) == []
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["task"]["note"] == "${oc.env:CANARY_VARIABLE}"
    assert config["task"]["again"] == "${task.note}"
    assert config["api_key"] == config["task"]["same"] == "***"
    assert config["tracking"]["address"] == "https://***@host/x"
    assert config["data"]["patch_size"] == 16 and config["model"]["width"] == 8
    overrides = yaml.safe_load((folder / ".hydra/overrides.yaml").read_text())
    assert "+api_key=***" in overrides and "+task.same=${api_key}" in overrides
    kept = yaml.safe_load((folder / "csv/version_0/hparams.yaml").read_text())
    assert kept["task.file"] == "~/x.bin" and kept["task.note"] == "${oc.env:CANARY_VARIABLE}"

    best = folder / "checkpoints" / "best.ckpt"
    trained = weights.read(best).info.config
    assert trained["task"]["name"] == "denoise" and trained["optimizer"]["lr"] == 2e-4
    assert trained["trainer"]["max_epochs"] == 1 and "note" not in trained["task"]
    assert str(tmp_path).encode() not in best.read_bytes()
    cli("mode=convert", f"weights={best}", "output=made/a.safetensors")
    cli("mode=report", "input=runs/one", "output=made/report.html")
    assert files_containing(tmp_path / "made", str(tmp_path)) == []
    assert files_containing(tmp_path, CANARY) == []


def test_weights_of_an_earlier_version_are_converted_without_paths(tmp_path: Path) -> None:
    read = weights.read("denoise")
    config = {"paths": {"run": "/home/ann/runs"}, "api_key": CANARY, "seed": 1}
    info = weights.Info(task="denoise", config=config)
    for suffix in (".safetensors", ".ckpt", ".pth"):
        weights.save(read.model, tmp_path / f"a{suffix}", info)
        assert weights.read(tmp_path / f"a{suffix}").info.config == {"seed": 1}
    assert files_containing(tmp_path, CANARY) == files_containing(tmp_path, "/home/ann") == []


def test_nested_secrets_are_masked_completely() -> None:
    texts = [f"{CANARY}{'x' * k}" for k in range(9)]
    config = OmegaConf.create({"api_key": dict(enumerate(texts)), "notes": [f"a {texts[8]}"]})
    assert recorded(config)["notes"] == ["a ***"]


@pytest.mark.parametrize("numbers", [False, True])
def test_environment_variables_stay_interpolations(
    monkeypatch: pytest.MonkeyPatch, numbers: bool
) -> None:
    register_resolvers()
    monkeypatch.setenv("SOME", "text")
    monkeypatch.setenv("COUNT", "5")
    config = OmegaConf.create(
        {
            "seed": "${oc.decode:${oc.env:COUNT}}",
            "task": {"name": "${oc.env:SOME}", "own": "${other}", "paper": {"epochs": 7}},
            "other": "${task.name}-x",
            "data": {"patch_size": "${task.paper.epochs}", "list": ["${oc.env:SOME}", "${seed}"]},
            "model": "${task.paper}",
            "missing": "???",
        }
    )
    seed = 5 if numbers else "${oc.decode:${oc.env:COUNT}}"
    assert recorded(config, numbers=numbers) == {
        "seed": seed,
        "task": {"name": "${oc.env:SOME}", "own": "${other}", "paper": {"epochs": 7}},
        "other": "${task.name}-x",
        "data": {"patch_size": 7, "list": ["${oc.env:SOME}", 5 if numbers else "${seed}"]},
        "model": {"epochs": 7},
        "missing": "???",
    }
    assert config.other == "text-x"  # unchanged
    assert training_settings(recorded(config, numbers=True))["seed"] == 5
    assert json.dumps(training_settings(recorded(config, numbers=True))).count("text") == 0


@pytest.mark.parametrize(("path", "copy"), [("/data", "/data"), ("${oc.env:SOME}", "${path}")])
def test_keys_are_recorded_as_text(monkeypatch: pytest.MonkeyPatch, path: str, copy: str) -> None:
    monkeypatch.setenv("SOME", "text")
    config = OmegaConf.create({"path": path, "sizes": {1: "a"}, "lists": [{2: "${path}"}]})
    assert recorded(config) == {"path": path, "sizes": {"1": "a"}, "lists": [{"2": copy}]}
