"""Histogram of the differences between the inputs and the targets of a training."""

import numpy as np
import pytest
import torch

from mprnet_lit.inference.change import mean_change
from mprnet_lit.training.change import ChangeHistogram


def test_percentile_is_that_of_the_patches() -> None:
    histogram = ChangeHistogram()
    assert histogram.high() is None
    target = torch.rand(400, 3, 2, 2) / 2
    levels = torch.linspace(0.1, 40, 400)
    signs = torch.where(torch.rand(target.shape) < 0.5, -1, 1)
    degraded = target + signs * levels[:, None, None, None] / 255
    for k in range(0, 400, 16):
        histogram.add(degraded[k : k + 16], target[k : k + 16])
    expected = np.quantile(levels.numpy(), 0.99)
    assert expected <= histogram.high() <= expected + 0.3

    resumed = ChangeHistogram()
    for damaged in (None, [], ["1"], [-1] * len(histogram.state()), "counts"):
        resumed.load(damaged)
        assert resumed.high() is None
    resumed.load(histogram.state())
    assert resumed.high() == histogram.high()
    resumed.add(torch.ones(8, 3, 2, 2), torch.zeros(8, 3, 2, 2))  # 2 % of the patches
    assert resumed.high() == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_change_of_an_image_is_in_levels_of_255(dtype: type[np.unsignedinteger]) -> None:
    rng = np.random.default_rng(0)
    one, other = (
        rng.integers(0, np.iinfo(dtype).max, (300, 201, 3), dtype, endpoint=True) for _ in range(2)
    )
    expected = np.abs(one.astype(float) - other).mean() * 255 / np.iinfo(dtype).max
    assert mean_change(one, other) == pytest.approx(expected, rel=1e-9)
    assert mean_change(one, one) == 0
    white = np.full((4, 4, 3), np.iinfo(dtype).max, dtype)
    assert mean_change(white, np.zeros_like(white)) == 255
