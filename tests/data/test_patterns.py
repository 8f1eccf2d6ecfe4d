"""Patterns on clean images: reproducible, part of the target, and without aliasing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import PHOTOS

from mprnet_lit.data import Patterns, Photos
from mprnet_lit.data.datasets import CropDataset
from mprnet_lit.data.degradations import GaussianNoise, MotionBlur
from mprnet_lit.data.patterns import stripes
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.images.reading import read_image, to_float

KINDS = ("stripes", "lattice", "text", "strings")


def rng(seed: Any = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photo() -> Any:
    return to_float(read_image(Path(PHOTOS) / "coffee.png"))[100:180, 100:196]


@pytest.mark.parametrize("kind", KINDS)
def test_pattern_depends_only_on_image_and_seed(kind: str, photo: Any) -> None:
    before, patterns = photo.copy(), Patterns(1, [kind])
    changes = []
    for seed in range(12):
        drawn = patterns(photo, rng(seed))
        np.testing.assert_array_equal(drawn, patterns(photo, rng(seed)))
        assert drawn.shape == photo.shape and drawn.dtype == np.float32
        assert drawn.min() >= 0 and drawn.max() <= 1
        changes.append(drawn - photo)
    np.testing.assert_array_equal(photo, before)
    kept = [np.mean(change == 0) for change in changes]
    assert sum(share < 0.01 for share in kept) > 1  # replaced photographs
    assert sum(share > 0.05 for share in kept) > 1  # the photograph shows between the pattern
    assert np.unique(np.abs(changes).mean((1, 2, 3))).size == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2), (300, 200)])
def test_any_image_size_is_accepted(kind: str, shape: tuple[int, int]) -> None:
    for seed in range(3):
        drawn = Patterns(1, [kind])(np.full((*shape, 3), 0.5, np.float32), rng(seed))
        assert drawn.shape == (*shape, 3) and np.isfinite(drawn).all()


def test_probability_is_the_share_of_changed_images(photo: Any) -> None:
    small = photo[:16, :16]
    drawn = [Patterns(0.3)(small, rng(seed)) is not small for seed in range(400)]
    assert np.mean(drawn) == pytest.approx(0.3, abs=0.06)
    assert all(Patterns(0)(small, rng(seed)) is small for seed in range(50))


@pytest.mark.parametrize(("angle", "period"), [(0, 7.5), (np.pi / 2, 3), (0, 2.5)])
def test_stripes_cover_the_exact_area_of_each_pixel(angle: float, period: float) -> None:
    still = np.zeros((30, 30), np.float32)
    for duty in (0.2, 0.5, 0.9):
        coverage = stripes((30, 30), rng(3), angle, period, duty, still)
        assert coverage.mean() == pytest.approx(duty, abs=1e-5)  # over a whole number of periods
        assert coverage.min() >= 0 and coverage.max() <= 1 + 1e-6


def dataset(patterns: Patterns | None, **options: Any) -> CropDataset:
    samples = Photos("train").samples("raise")[:2]
    settings: dict[str, Any] = {"training": True, "degradation": GaussianNoise(25), "seed": 4}
    return CropDataset(samples, crop_size=48, patterns=patterns, **settings | options)


def test_patterns_are_part_of_the_target_and_leave_the_degradation_unchanged() -> None:
    for epoch in range(3):
        key = ItemKey(epoch, 1)
        plain, drawn, never = (dataset(p)[key] for p in (None, Patterns(1), Patterns(0)))
        assert not torch.equal(drawn["target"], plain["target"])
        noise = [item["degraded"] - item["target"] for item in (plain, drawn)]
        torch.testing.assert_close(*noise, rtol=0, atol=1e-6)
        assert all(torch.equal(never[name], plain[name]) for name in ("degraded", "target"))


def test_patterns_are_drawn_before_a_degradation_on_the_device() -> None:
    blur, key = MotionBlur(4), ItemKey(0, 0)
    margin = blur.margin
    now = dataset(Patterns(1), degradation=blur)[key]
    later = dataset(Patterns(1), degradation=blur, degrade_later=True)[key]
    torch.testing.assert_close(later["target"][:, margin:-margin, margin:-margin], now["target"])


def test_validation_and_pairs_have_no_patterns() -> None:
    key = ItemKey(0, 0)
    plain, drawn = (dataset(p, training=False)[key] for p in (None, Patterns(1)))
    assert torch.equal(drawn["target"], plain["target"])
    paired = dataset(Patterns(1), degradation=None)
    paired.samples = [replace(s, degraded=s.target) for s in paired.samples]
    assert torch.equal(paired[key]["target"], paired[key]["degraded"])
