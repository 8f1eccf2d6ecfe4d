"""Folders for the Hugging Face Hub, their upload, and other ways to load the weights."""

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from tests.conftest import Cli
from tests.hub.hub_server import COMMIT, HubServer

from mprnet_lit import MPRNet, Restorer, weights
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info
from mprnet_lit.weights.card import model_card

ROOT = Path(__file__).parents[2]
INFO = Info(
    "derain",
    128,
    "CC0-1.0",
    metrics={"val/psnr": 31.512, "val/ssim": 0.9},
    config={"seed": 3, "optimizer": {"lr": 2e-4, "betas": [0.9, 0.999]}},
)


@pytest.fixture(scope="module")
def model() -> MPRNet:
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 2)


def front_matter(card: str) -> Any:
    return yaml.safe_load(card.split("---\n")[1])


def test_saved_folder_is_read_with_its_metadata(model: MPRNet, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "net", INFO)
    again = MPRNet.from_pretrained(tmp_path / "net")
    assert again.info == INFO and again.size == model.size
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert asdict(model.size).items() <= config.items() and config["crop"] == 128
    again.save_pretrained(tmp_path / "copy")  # the license is not lost
    assert weights.read(tmp_path / "copy").info == INFO
    assert json.loads((tmp_path / "copy" / "config.json").read_text()) == config


def test_model_card_states_the_metadata(model: MPRNet) -> None:
    card = model_card(model, INFO, "hf://me/net")
    fields = front_matter(card)
    assert (fields["license"], fields["library_name"]) == ("cc0-1.0", "mprnet_lit")
    assert fields["tags"][-1] == "derain"
    (result,) = fields["model-index"][0]["results"]
    assert [(m["type"], m["value"]) for m in result["metrics"]] == [("psnr", 31.512), ("ssim", 0.9)]
    count = sum(p.numel() for p in model.parameters())
    for part in (
        f"MPRNet with {count:,} parameters (float32) for the task `derain`",
        'Restorer("hf://me/net")("photo.jpg")',
        "Patches of 128 x 128 pixels",
        "| `optimizer.lr` | `0.0002` |",
        "| `seed` | `3` |",
        "| `PSNR (dB)` | `31.51` |",
    ):
        assert part in card
    assert "betas" not in card


def test_model_card_of_weights_without_metadata_and_with_hostile_metadata(model: MPRNet) -> None:
    card = model_card(model, Info(), "net")
    assert "license" not in front_matter(card)
    assert "Not measured." in card and "Unknown." in card
    hostile = Info("`<script>\n---\n", license="Free | [no](x)", metrics={"a|b`": 1})
    card = model_card(model, hostile, 'x")\nimport os')
    fields = front_matter(card)
    assert (fields["license"], fields["license_name"]) == ("other", "free-no-x")
    assert fields["tags"][-1] == "`<script>\n---\n" and card.count("\n---\n") == 1
    assert "for the task `'<script>\\n---\\n`" in card
    assert "| `a/b'` | `1` |" in card
    assert r'Restorer("x\")\nimport os")' in card


def test_upload_creates_a_repository_that_loads(
    model: MPRNet, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = model.push_to_hub("me/net", INFO, private=True, token="hf_secret")
    assert commit == f"{server.url}/me/net/commit/{COMMIT}"
    assert sorted(server.uploaded) == ["README.md", "config.json", "model.safetensors"]
    assert b'Restorer("hf://me/net")' in server.uploaded["README.md"]
    for name, content in server.uploaded.items():
        server.files[f"/me/net/resolve/main/{name}"] = content
    assert MPRNet.from_pretrained("hf://me/net").info == INFO

    server.refuses_uploads = True
    with pytest.raises(UserError, match=r"can't upload to hf://me/net \(.*401.*\): check the name"):
        model.push_to_hub("me/net", INFO, token="hf_wrong")
    with pytest.raises(UserError, match="repo_id=net must be OWNER/REPO"):
        model.push_to_hub("net")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"push_to_hub needs the package huggingface_hub: pip"):
        model.push_to_hub("me/net")


def test_torch_hub_loads_the_network_and_the_restorer() -> None:
    load: Any = torch.hub.load
    model = load(str(ROOT), "mprnet", source="local", weights="derain")
    assert isinstance(model, MPRNet) and model.info is not None and model.info.task == "derain"
    assert load(str(ROOT), "mprnet", source="local", size="tiny").size == model.size
    restorer = load(str(ROOT), "restorer", source="local", weights="derain", tile=64)
    assert isinstance(restorer, Restorer) and restorer.tile == 64
    conf = runpy.run_path(str(ROOT / "hubconf.py"))
    # torch.hub.list() lists the functions and classes.
    listed = [name for name, value in conf.items() if callable(value) and name[0] != "_"]
    assert listed == ["mprnet", "restorer"]


def test_converted_pth_has_the_names_and_shapes_that_other_programs_recognize(
    cli: Cli, tmp_path: Path, published_shapes: dict[str, dict[str, Any]]
) -> None:
    """spandrel, chaiNNer and ComfyUI detect a network by the published names and shapes."""
    weights.save(MPRNet.from_size("small"), tmp_path / "a.safetensors", INFO)
    cli("mode=convert", "weights=a.safetensors", "output=b.pth")
    content = torch.load(tmp_path / "b.pth", weights_only=True)
    shapes = {name: list(tensor.shape) for name, tensor in content["state_dict"].items()}
    assert shapes == published_shapes["small"]["tensors"]
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        tail = file.get_tensor("tail.weight")
    assert torch.equal(content["state_dict"]["tail.weight"], tail)
