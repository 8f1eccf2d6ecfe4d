"""Replacement of parameter names in library messages by configuration keys."""

import pytest
from omegaconf import OmegaConf

from mprnet_lit.config.messages import with_keys

CONFIG = OmegaConf.create(
    {
        "data": {"patch_size": 100, "on_error": "raise", "seed": "${seed}"},
        "inference": {"tile": 96},
        "evaluate": {"metrics": ["niqe"]},
        "seed": 0,
        "output": None,
    }
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("patch_size=100 must be a multiple of 8", "data.patch_size=100 must be a multiple of 8"),
        ("data: patch_size=9 must be 8", "data.patch_size=9 must be 8"),  # prefix of instantiate()
        ("or set on_error='skip' to skip", "or set data.on_error=skip to skip"),
        ("(tile=96): set tile=64", "(inference.tile=96): set inference.tile=64"),
        ("data.patch_size=9 or output=x", "data.patch_size=9 or output=x"),
        ("metrics=[niqe]: niqe can't be", "evaluate.metrics=[niqe]: niqe can't be"),
        ("seed=3 differs", "seed=3 differs"),
        ("my/tile=3.png and my_tile=4", "my/tile=3.png and my_tile=4"),
    ],
)
def test_parameters_become_keys(message: str, expected: str) -> None:
    assert with_keys(message, CONFIG) == expected


def test_configurations_without_these_nodes_change_nothing() -> None:
    assert with_keys("tile=3", OmegaConf.create({"data": None})) == "tile=3"
