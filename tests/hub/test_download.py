"""Weights files from the Hugging Face Hub and from web servers, both played by a local server."""

import hashlib
import os
import pickle
import socket
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from tests.conftest import Cli
from tests.full_disk import file_size_limit
from tests.hub.hub_server import COMMIT, HubServer

from mprnet_lit import MPRNet, Restorer, weights
from mprnet_lit.cli import serve
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info
from mprnet_lit.weights.address import HubAddress, WebAddress, parse_address
from mprnet_lit.weights.download import fetch

HUB = "/me/net/resolve/main/model.safetensors"
DIGITS = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def model() -> MPRNet:
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 2)


@pytest.fixture(scope="module")
def content(model: MPRNet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Content of a weights file by suffix."""
    folder = tmp_path_factory.mktemp("files")
    for suffix in (".pth", ".safetensors"):
        weights.save(model, folder / f"w{suffix}", Info("derain", 128, "CC0-1.0"))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def cached(folder: Path) -> list[str]:
    return [p.name for p in folder.glob("**/*") if p.is_file() and p.name != ".lock"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://me/net", HubAddress("me/net", "model.safetensors")),
        ("hf://me/net@v1.0", HubAddress("me/net", "model.safetensors", "v1.0")),
        ("hf://me/net/a/b.pth@refs/pr/1", HubAddress("me/net", "a/b.pth", "refs/pr/1")),
        (f"hf://me/net#sha256={DIGITS.upper()}", HubAddress("me/net", sha256=DIGITS)),
        ("https://example.com/a/b.pth?x=1", WebAddress("https://example.com/a/b.pth?x=1")),
        (f"http://host/b.pth#sha256={DIGITS}", WebAddress("http://host/b.pth", DIGITS)),
    ],
)
def test_forms_of_addresses(text: str, expected: Any) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hf://me", "must have the form hf://OWNER/REPO"),
        ("hf://me/net/../../other", "must have the form hf://OWNER/REPO"),
        ("foo://bucket/b.pth", "has an unknown protocol: use s3"),
        ("https:///b.pth", "must be a path, or start with hf://"),
        ("https://me:hunter2@host/b.pth", "on host must not contain a user or a password"),
        ("http://host/b.pth", "is not encrypted"),
        ("https://host/b.pth#sha256=12", "64 hexadecimal digits"),
        ("https://host/b.pth#md5=12", "64 hexadecimal digits"),
        ("https://host/b.onnx", "is an exported network, which is not downloaded"),
        ("hf://me/net/b.onnx@main", "is an exported network, which is not downloaded"),
    ],
)
def test_invalid_addresses_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        Restorer(text)
    assert "hunter2" not in str(raised.value)


def test_file_names_of_a_server_stay_in_the_cache_folder() -> None:
    assert WebAddress("https://host/a/..%2F..%2F.ssh").file == "ssh"
    assert WebAddress("https://host/").file == "weights"
    assert WebAddress("https://host/a%20b;c.pth?download=true").file == "a_b_c.pth"


def test_web_file_is_downloaded_once_and_then_read_offline(
    server: HubServer, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, suffix in (("a", ".pth"), ("b", ".pth"), ("a", ".safetensors")):
        server.files[f"/{folder}/w{suffix}"] = content[suffix]
        server.redirects["/latest"] = "/a/w.pth"
    for path in ("/a/w.pth", "/b/w.pth", "/a/w.safetensors", "/latest"):
        info = weights.read(server.url + path).info
        assert (info.task, info.crop) == ("derain", 128)
        assert server.requests
        server.requests.clear()
    assert weights.read(f"{server.url}/a/w.pth").path != weights.read(f"{server.url}/b/w.pth").path
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert MPRNet.from_pretrained(f"{server.url}/a/w.pth").size.width == 8
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, and .*other.pth is not in the"):
        weights.load(f"{server.url}/other.pth")
    assert server.requests == []


def test_broken_download_of_a_web_file_is_not_cached(
    server: HubServer, content: dict[str, bytes], tmp_path: Path
) -> None:
    size = len(content[".pth"])
    server.files["/w.pth"] = content[".pth"]
    server.cut.add("/w.pth")
    for ranges in (set(), {"/w.pth"}):
        server.without_ranges = ranges
        with pytest.raises(UserError, match=rf"ended after {size // 2} of {size} bytes: run the"):
            weights.load(f"{server.url}/w.pth")
        assert cached(tmp_path / "torch") == []
    server.cut.clear()
    assert weights.load(f"{server.url}/w.pth").size.width == 8
    assert cached(tmp_path / "torch") == ["w.pth"]


def test_checksum_of_a_web_file(
    server: HubServer, content: dict[str, bytes], tmp_path: Path
) -> None:
    address = f"{server.url}/w.pth"
    server.files["/w.pth"] = content[".pth"]
    with pytest.raises(UserError, match=f"has the checksum sha256={sha256(content['.pth'])}, not"):
        weights.load(f"{address}#sha256={DIGITS}")
    assert cached(tmp_path / "torch") == []
    assert weights.read(f"{address}#sha256={sha256(content['.pth'])}").path == fetch(address)
    # The publisher replaces the file, and announces its new checksum.
    server.files["/w.pth"] = content[".pth"] + b"\n"
    fetch(address)
    path = fetch(f"{address}#sha256={sha256(server.files['/w.pth'])}")
    assert path.read_bytes() == server.files["/w.pth"]


def test_errors_of_web_servers_are_one_sentence(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/view"] = b"<!doctype html>"
    server.types["/view"] = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="is a web page, not a file: download the file in a brow"):
        weights.load(f"{server.url}/view")
    with pytest.raises(UserError, match=r"none.pth does not exist \(HTTP 404 Not Found\): check"):
        weights.load(f"{server.url}/none.pth")
    server.errors["/private.pth"] = (403, "")
    with pytest.raises(UserError, match=r"private.pth can't be downloaded \(HTTP 403 Forbidden"):
        weights.load(f"{server.url}/private.pth")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match=r"Connection refused\): check the network, or download"):
        weights.load(f"http://127.0.0.1:{port}/w.pth")

    class Answer(BytesIO):
        status, url = 200, "http://host/w.pth"

    monkeypatch.setattr("mprnet_lit.weights.download.urlopen", lambda _: Answer())
    with pytest.raises(UserError, match="redirects to an address without encryption"):
        weights.load("https://host/w.pth")
    assert cached(tmp_path / "torch") == []


def test_file_of_the_hub_is_resumed_cached_and_read_offline(
    server: HubServer, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[HUB] = content[".safetensors"]
    server.files["/me/net/resolve/v1/old/w.pth"] = content[".pth"]
    server.cut.add(HUB)  # the client requests the second half
    digest = sha256(content[".safetensors"])
    read = weights.read(f"hf://me/net#sha256={digest}")
    assert read.info.task == "derain" and read.path is not None and COMMIT in str(read.path)
    ranges = [wanted for method, path, wanted in server.requests if method == "GET"]
    assert ranges[0] == "" and int(ranges[1].removeprefix("bytes=").rstrip("-")) > 0
    assert weights.read("hf://me/net/old/w.pth@v1").info.crop == 128
    with pytest.raises(UserError, match=f"has the checksum sha256={digest}, not {DIGITS}"):
        weights.load(f"hf://me/net#sha256={DIGITS}")
    server.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights.load("hf://me/net").size.width == 8
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, and hf://me/net/b.pth is not in"):
        weights.load("hf://me/net/b.pth")
    assert server.requests == []


def test_errors_of_the_hub_are_one_sentence(
    server: HubServer, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for repo, revision, status, code, problem in (
        ("me/private", "main", 401, "RepoNotFound", "does not exist or is private: check the name"),
        ("me/gated", "main", 403, "GatedRepo", "asks for the acceptance of conditions"),
        ("me/net", "v9", 404, "RevisionNotFound", "has no revision v9"),
        ("me/net", "main", 404, "EntryNotFound", "has no file model.safetensors: add its name"),
        ("me/net", "main", 400, "", r"can't be reached \(.+\), and hf://me/net/model.s"),
    ):
        server.errors[f"/{repo}/resolve/{revision}/model.safetensors"] = status, code
        with pytest.raises(UserError, match=problem):
            weights.load(f"hf://{repo}@{revision}")

    server.files[HUB] = content[".safetensors"]
    server.cut.add(HUB)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 20)
    with pytest.raises(
        UserError, match=r"can't download hf://me/net/model.safetensors@main \(peer"
    ):
        weights.load("hf://me/net@main")  # every attempt breaks off within the first chunk
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs the package huggingface_hub: pip install .*\[hub"):
        weights.load("hf://me/net")


def test_code_in_a_downloaded_file_is_never_executed(server: HubServer, tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> tuple[Any, tuple[Any]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    server.files["/w.pth"] = server.files["/me/net/resolve/main/w.pth"] = pickle.dumps(Exploit(), 2)
    for address in (f"{server.url}/w.pth", "hf://me/net/w.pth"):
        with pytest.raises(UserError, match="is not a weights file, is damaged, or contains code"):
            weights.load(address)
    assert not (tmp_path / "executed").exists()


def test_command_line_takes_addresses(
    server: HubServer, content: dict[str, bytes], cli: Cli, tmp_path: Path
) -> None:
    server.files["/w.pth"] = server.files["/me/net/resolve/v1/a.pth"] = content[".pth"]
    digest = sha256(content[".pth"])
    address = f"{server.url}/w.pth#sha256={digest}"
    for source in (address, "hf://me/net/a.pth@v1"):
        done = cli("mode=convert", f"weights={source}", "output=w.safetensors", "overwrite=true")
        assert f"sha256={digest}" in done.output.replace("\n", "")
    assert weights.read(tmp_path / "w.safetensors").info.license == "CC0-1.0"
    assert serve._weights(SimpleNamespace(weights=address)) == {"w.pth": address}  # type: ignore[arg-type]


def test_errors_of_the_caches_name_the_caches(
    server: HubServer, content: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/w.pth"], server.files[HUB] = content[".pth"], content[".safetensors"]
    caches = {
        f"{server.url}/w.pth": (tmp_path / "torch/hub/checkpoints/mprnet_lit", "TORCH_HOME"),
        "hf://me/net": (tmp_path / "hub", "HF_HOME"),
    }
    for address, (cache, variable) in caches.items():
        with pytest.raises(UserError) as caught, file_size_limit(1000):
            fetch(address)
        expected = f"can't write into {cache}: File too large; free disk space or set {variable}"
        assert str(caught.value).startswith(expected)
    assert cached(tmp_path / "torch") == []
    (tmp_path / "file").touch()  # no folder can be created below a file, not even by root
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    for address, (_, variable) in caches.items():
        with pytest.raises(
            UserError, match=rf"can't write into .*: Not a .*set {variable} to a wr"
        ):
            fetch(address)


def test_faulty_file_of_a_web_server_is_named_by_its_address_and_not_cached(
    server: HubServer, content: dict[str, bytes]
) -> None:
    server.files["/w.pth"] = server.files["/me/net/resolve/main/w.pth"] = b"wrong file"
    for address in (f"{server.url}/w.pth", "hf://me/net/w.pth"):
        with pytest.raises(UserError, match=f"^{address} is not a weights file, is damaged"):
            weights.load(address)
    server.files["/w.pth"] = content[".pth"]
    assert weights.load(f"{server.url}/w.pth").size.width == 8
