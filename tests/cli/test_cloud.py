"""Commands that read from and write to URLs, in memory and on a local web server."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli
from tests.utils.test_remote import memory as memory
from tests.web_server import serve

from mprnet_lit import weights
from mprnet_lit.data.store import Prepared
from mprnet_lit.models import MPRNet
from mprnet_lit.weights import Info


@pytest.fixture
def photos(memory: Any, tmp_path: Path) -> Path:
    """Two photos and weights, in a folder and in memory."""
    torch.manual_seed(0)
    weights.save(MPRNet(8, 4, 4, 1), tmp_path / "w.safetensors", Info("denoise", 64))
    cat = Image.open(PHOTOS / "chelsea.png")
    for k, name in enumerate(("in/a.png", "in/sub/b.png")):
        (tmp_path / name).parent.mkdir()
        cat.crop((50 * k, 0, 50 * k + 64, 48)).save(tmp_path / name)
        memory.put_file(str(tmp_path / name), f"/data/{name}")
    return tmp_path


RUN = ("mode=restore", "weights=w.safetensors", "input=memory://data/in")


def test_photos_at_a_url_are_restored_to_a_url(cli: Cli, photos: Path, memory: Any) -> None:
    cli("mode=restore", "weights=w.safetensors", "input=in", "output=out")
    inner = "output=memory://data/in/out"
    assert "2 restored" in cli(*RUN, inner, "restore.report=true").output
    for name in ("a.png", "sub/b.png"):
        assert memory.cat(f"/data/in/out/{name}") == (photos / "out" / name).read_bytes()
    assert memory.exists("/data/in/out/report.html")
    assert "memory:" not in {path.name for path in photos.iterdir()}

    memory.rm("/data/in/out/a.png")
    assert "2 of 2 are already restored" in cli(*RUN, inner).output
    assert memory.exists("/data/in/out/a.png"), "uploaded again"
    memory.pipe("/data/in/out/a.png", b"of another")
    message = error_message(cli(*RUN, inner, status=1))
    assert "memory://data/in/out/a.png would be overwritten" in message
    assert memory.cat("/data/in/out/a.png") == b"of another"
    cli(*RUN, inner, "overwrite=true")
    assert memory.cat("/data/in/out/a.png") == (photos / "out" / "a.png").read_bytes()
    message = error_message(cli(*RUN, "output=memory://data/in/", status=1))
    assert "would overwrite the input files" in message

    cli(*RUN[:2], "input=memory://data/in/sub/b.png", "output=memory://data/b.jpg")
    with memory.open("/data/b.jpg") as file:
        assert Image.open(file).format == "JPEG"


def test_images_on_a_web_server_are_prepared(cli: Cli, photos: Path) -> None:
    with serve(photos) as server:
        cli("mode=prepare", "data=clean", f"data.train.folder={server}/in", "output=store")
        pairs = (f"data.train.degraded={server}/in", "data.train.target=in")
        cli("mode=prepare", "data=paired", *pairs, "output=pairs")
        message = error_message(
            cli(
                "mode=prepare",
                "data=clean",
                f"data.train.folder={server}/no/",
                "output=x",
                status=1,
            )
        )
    assert f"{server}/no/ does not exist" in message
    names = {
        sample.name
        for split in ("train", "val")
        for sample in Prepared("store", split).samples("raise")
    }
    assert names == {"a", "sub/b"}
    assert len(Prepared("pairs", "train").samples("raise")) == 1


def test_weights_and_scores_are_written_to_urls(cli: Cli, photos: Path, memory: Any) -> None:
    cli("mode=convert", "weights=w.safetensors", "output=memory://data/w.pth")
    copy, model = (weights.read(p).model for p in ("memory://data/w.pth", "w.safetensors"))
    assert all(map(torch.equal, copy.parameters(), model.parameters()))
    again = ("mode=convert", "weights=memory://data/w.pth", "output=memory://data/w.pth")
    assert "memory://data/w.pth already exists" in error_message(cli(*again, status=1))
    cli(
        "mode=evaluate", "weights=memory://data/w.pth", "input=memory://data/in",
        "evaluate.target=in", "output=memory://data/scores",
    )  # fmt: skip
    assert memory.exists("/data/scores/scores.json") and memory.exists("/data/scores/report.html")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("paths.runs=s3://b/runs",), "paths.runs"),
        (("hydra.run.dir=s3://b/runs",), "hydra.run.dir"),
        (("-m", "seed=1,2", "hydra.sweep.dir=s3://b/runs"), "hydra.sweep.dir"),
        (("mode=prepare", "output=s3://b/store"), "output"),
        (("mode=report", "input=s3://b/runs"), "input"),
    ],
)
def test_folders_that_must_be_local(cli: Cli, tmp_path: Path, arguments: Any, key: str) -> None:
    message = error_message(cli(*arguments, status=1))
    assert f"{key}=s3://b" in message and "must be a local folder: " in message
    assert "s3:" not in {path.name for path in tmp_path.iterdir()}
