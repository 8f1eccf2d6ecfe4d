"""Instructions of CONTRIBUTING.md for a new task: one configuration and one degradation."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.config.groups import CONFIG_DIR
from tests.conftest import PHOTOS, Cli

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
FILES = re.findall(r"^`(\S+)`:\n\n```\w+\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_new_task_needs_one_configuration_and_one_degradation(
    shell: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [name for name, _ in FILES] == ["faded.py", "conf/task/faded.yaml"]
    for name, text in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    # The command of the page, with a smaller training.
    (training,) = re.findall(r"python -m mprnet_lit (--config-dir.+)", PAGE)
    trained = shell(
        *training.split(), "trainer.max_steps=2", "trainer.check_val_every_n_epoch=1",
        "data.batch_size=2", "data.patch_size=32", "data.val_crop_size=64",
    )  # fmt: skip
    assert "Training MPRNet to faded" in trained.output
    assert trained.json("summary.json")["psnr_degraded"] < 20  # the degraded image is pale
    config = yaml.safe_load(trained.file("summary.json").with_name("config.yaml").read_text())
    assert config["task"]["degradation"]["_target_"] == "faded.Faded"
    assert config["data"]["degradation"] == config["task"]["degradation"]
    assert trained.file("latest.png").parents[2] == tmp_path / "runs" / "faded"
    assert weights.read(tmp_path / "runs" / "faded").info.task == "faded"

    monkeypatch.syspath_prepend(tmp_path)
    degrade = __import__("faded").Faded()
    photo = np.array(Image.open(PHOTOS / "chelsea.png"))[100:164, 100:196]
    faded = degrade(photo.astype(np.float32) / 255, np.random.default_rng(0))
    for folder, image in ("originals", photo), ("prints", (faded * 255).astype(np.uint8)):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "cat.png")
    cli("mode=restore", "weights=runs/faded", "input=prints/cat.png", "output=restored")
    assert Image.open(tmp_path / "restored" / "cat.png").size == (96, 64)
    (evaluating,) = re.findall(r"python -m mprnet_lit (mode=evaluate.+)", PAGE)
    scored = cli(*evaluating.split())
    assert len(scored.file("scores.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIG_DIR.glob("task/[!_]*.yaml")))
def test_training_and_restoring_code_names_no_task(name: Any) -> None:
    sources = Path(weights.__file__).parents[1]
    for folder in ("cli", "data", "inference", "reports", "runs", "serving", "sweeps", "weights"):
        paths = list((sources / folder).glob("**/*.py"))
        assert paths
        for path in paths:
            assert f'"{name}"' not in path.read_text(), path
