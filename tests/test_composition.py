"""The cache of compositions in :mod:`tests.composition`."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra._internal import config_loader_impl
from omegaconf import DictConfig, OmegaConf

from tests import composition
from tests.config.test_config import compose

COMMAND = ("task=derain", "model=small", "callbacks=ema", "data=paired")


def properties(node: Any, key: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield the key, types and flags of a node and of all nodes below it."""
    metadata = node._metadata
    yield key, metadata.ref_type, metadata.object_type, metadata.flags
    if isinstance(node, DictConfig) and isinstance(node._content, dict):
        for name, child in node._content.items():
            yield from properties(child, f"{key}.{name!s}")


def test_cached_compositions_equal_those_of_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        monkeypatch.setattr(composition, "_cached", {})  # the second reads the shared files
        cached = compose(*COMMAND, f"seed={number}", return_hydra_config=True)
    with monkeypatch.context() as patch:
        patch.setattr(config_loader_impl, "create_defaults_list", composition._create)
        patch.setattr(
            composition._Loader, "_compose_config_from_defaults_list", composition._compose
        )
        original = compose(*COMMAND, "seed=1", return_hydra_config=True)
    assert OmegaConf.to_yaml(cached) == OmegaConf.to_yaml(original)
    assert list(properties(cached)) == list(properties(original))
    assert OmegaConf.to_yaml(compose(*COMMAND, "model=tiny")) != OmegaConf.to_yaml(cached)
