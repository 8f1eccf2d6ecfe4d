"""Learning-rate schedule compared with the closed form of the recipe."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from mprnet_lit.training.schedule import WarmupCosine


def rates(epochs: int, **options: Any) -> list[Any]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-4)
    steps = options.get("steps_per_epoch", 1) if options.get("per_step") else 1
    per_epoch = options.pop("steps_per_epoch", 1)
    schedule = WarmupCosine(**options).build(optimizer, epochs=epochs, steps_per_epoch=per_epoch)
    out = []
    for _ in range(int(epochs * steps)):
        out.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return [*out, schedule.get_last_lr()[0]]


def cosine(epoch: int, period: float) -> Any:
    return 1e-6 + (2e-4 - 1e-6) * 0.5 * (1 + math.cos(math.pi * epoch / period))


def test_paper_recipe_follows_the_closed_form() -> None:
    lr = rates(250)
    assert lr[:4] == pytest.approx([2e-4 / 3, 4e-4 / 3, 2e-4, 2e-4])
    assert lr[100] == pytest.approx(cosine(97, 247))
    assert lr[250] == pytest.approx(1e-6)


def test_denoising_recipe_ends_above_the_final_rate() -> None:
    lr = rates(80, extra_period=40)
    assert lr[80] == pytest.approx(cosine(77, 117))
    assert lr[80] > 2e-5


def test_per_step_is_smooth_and_ends_at_the_same_rate() -> None:
    lr = rates(10, steps_per_epoch=20, per_step=True, warmup_epochs=1)
    assert lr[0] == pytest.approx(2e-4 / 20)
    assert max(lr) == pytest.approx(2e-4) == lr[19]
    assert lr[-1] == pytest.approx(1e-6)
    assert max(abs(a - b) for a, b in pairwise(lr)) < 1.1e-5


def test_short_run_reaches_the_peak() -> None:
    assert max(rates(2)) == pytest.approx(2e-4)
