"""Fixture: a local server in place of the Hugging Face Hub, and empty caches."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.hub.hub_server import HubServer, hub_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    # The client waits before it retries.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    with hub_server() as running:
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + template)
        yield running
