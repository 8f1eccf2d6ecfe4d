"""Mapping of the published parameter names, checked on the key lists of all networks."""

from dataclasses import asdict
from typing import Any

import pytest
import torch
from tests.conftest import Golden

from mprnet_lit.models import SIZES, MPRNet
from mprnet_lit.models.sizes import SizeName
from mprnet_lit.weights.official import from_official, is_official, to_official
from mprnet_lit.weights.shapes import build, size_of


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_published_names_and_shapes_round_trip(
    published_shapes: dict[str, dict[str, Any]], size: SizeName, prefix: str
) -> None:
    shapes = published_shapes[size]["tensors"]
    published = {
        prefix + name: torch.full(shape, float(k)) for k, (name, shape) in enumerate(shapes.items())
    }
    assert is_official(published)
    ours = from_official(published)
    assert size_of(ours) == SIZES[size]
    with torch.device("meta"):
        model = MPRNet(**asdict(SIZES[size]))
    assert {n: list(p.shape) for n, p in model.state_dict().items()} == {
        n: list(t.shape) for n, t in ours.items()
    }
    back = to_official(ours, SIZES[size].cabs_per_orb)
    assert back.keys() == shapes.keys()
    assert all(torch.equal(back[name], published[prefix + name]) for name in shapes)


def test_missing_parameter_is_named(golden: Golden) -> None:
    weights = golden.weights
    del weights["sam12.conv2.weight"]
    with pytest.raises(ValueError, match=r"1 parameter is missing \(sam1\.to_image\.weight\)"):
        build(from_official(weights))
