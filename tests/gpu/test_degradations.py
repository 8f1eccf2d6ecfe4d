"""Batched degradations on the GPU, compared with the CPU."""

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from tests.data.test_batched_degradations import DETERMINISTIC, RANDOM, rng
from torch.utils.data import default_collate, default_convert

from mprnet_lit.data.degradations import Degradation

SHAPE = (160, 176)
"""Height and width of the images, more than twice the largest margin."""


@pytest.mark.parametrize(
    ("degradation", "tolerance"),
    [
        *(pytest.param(each, 1e-5, id=name) for name, each in DETERMINISTIC.items()),
        *(pytest.param(each, 1e-4, id=f"random {name}") for name, each in RANDOM.items()),
    ],
)
def test_degradations_agree_with_the_cpu(
    device: torch.device, tf32: bool, degradation: Degradation, tolerance: float
) -> None:
    clean = torch.rand(3, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    draws = default_collate(default_convert([degradation.draw(SHAPE, rng(k)) for k in range(3)]))
    found = degradation.degrade_batch(clean.to(device), move_data_to_device(draws, device))
    assert found.device.type == device.type
    expected = degradation.degrade_batch(clean, draws)
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=tolerance)
