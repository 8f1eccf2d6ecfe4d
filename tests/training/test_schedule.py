"""Learning-rate schedule compared with the closed form of the recipe."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from mprnet_lit.training.schedule import WarmupCosine


def rates(epochs: float, steps_per_epoch: int, **options: Any) -> list[float]:
    """Return the learning rate of each step and that after the last step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
    schedule = WarmupCosine(**options).build(
        optimizer, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
    return [2e-4 * schedule.lr_lambdas[0](k) for k in range(round(epochs * steps_per_epoch) + 1)]


def cosine(epoch: int, period: float) -> Any:
    return 1e-6 + (2e-4 - 1e-6) * 0.5 * (1 + math.cos(math.pi * epoch / period))


def test_paper_recipe_follows_the_closed_form() -> None:
    lr = rates(250, 400)
    assert all(len(set(lr[k : k + 400])) == 1 for k in range(0, 100_000, 400))
    lr = lr[::400]
    assert lr[:4] == pytest.approx([2e-4 / 3, 4e-4 / 3, 2e-4, 2e-4])
    assert lr[100] == pytest.approx(cosine(97, 247))
    assert lr[250] == pytest.approx(1e-6)


def test_denoising_recipe_ends_above_the_final_rate() -> None:
    lr = rates(80, 300, extra_period=40)[::300]
    assert lr[80] == pytest.approx(cosine(77, 117))
    assert lr[80] > 2e-5


def test_per_step_is_smooth_and_ends_at_the_same_rate() -> None:
    lr = rates(10, 20, per_step=True, warmup_epochs=1)
    assert lr[0] == pytest.approx(2e-4 / 20)
    assert max(lr) == pytest.approx(2e-4) == lr[19]
    assert lr[-1] == pytest.approx(1e-6)
    assert max(abs(a - b) for a, b in pairwise(lr)) < 1.1e-5


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "warmup"),
    [
        (2, 125, 125),  # the first epoch had the full learning rate from its first step
        (1, 20, 10),
        (0.5, 8000, 400),  # a tenth of the training
        (250, 12, 300),  # three epochs have 36 steps
        (1000, 99, 300),  # the warm-up does not grow with the training
    ],
)
def test_short_training_warms_up_by_step(epochs: float, steps_per_epoch: int, warmup: int) -> None:
    lr = rates(epochs, steps_per_epoch)
    assert lr[0] == pytest.approx(2e-4 / warmup)
    assert lr[warmup - 1] == pytest.approx(2e-4) == max(lr)
    assert max(b - a for a, b in pairwise(lr)) == pytest.approx(2e-4 / warmup)
    assert lr[-1] == pytest.approx(1e-6)


def test_warmup_by_epoch_is_limited_to_half_of_the_training() -> None:
    lr = rates(2, 125, min_warmup_steps=0)  # as in release 0.1
    assert lr[0] == lr[125] == pytest.approx(2e-4)
    assert rates(4, 10, min_warmup_steps=0)[::10][:2] == pytest.approx([1e-4, 2e-4])


def test_schedule_without_warmup_starts_at_the_peak() -> None:
    assert rates(2, 125, warmup_epochs=0)[0] == pytest.approx(2e-4)
