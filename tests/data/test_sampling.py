"""Order of items: exact distribution, the same total batches for any world size, resuming."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mprnet_lit.data.sampling import EpochSampler


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_every_item_has_weight_once_for_any_world_size(
    length: int, world: int, epoch: int, shuffle: bool
) -> None:
    shares = [
        list(
            EpochSampler(
                length, seed=3, shuffle=shuffle, rank=rank, world_size=world,
                position=lambda: (epoch, 0),
            )
        )
        for rank in range(world)
    ]  # fmt: skip
    assert len({len(share) for share in shares}) == 1
    counted = [key.item for share in shares for key in share if key.weight]
    assert sorted(counted) == list(range(length))
    assert all(key.epoch == epoch for share in shares for key in share)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
def test_processes_together_read_the_batches_of_a_single_process(
    batches: int, world: int, per_device: int
) -> None:
    total = world * per_device
    length = batches * total
    single = [k.item for k in EpochSampler(length, seed=1, shuffle=True)]
    shares = [
        [k.item for k in EpochSampler(length, seed=1, shuffle=True, rank=r, world_size=world)]
        for r in range(world)
    ]
    for b in range(batches):
        together = {i for s in shares for i in s[b * per_device : (b + 1) * per_device]}
        assert together == set(single[b * total : (b + 1) * total])


@given(st.integers(1, 40), st.integers(1, 3), st.data())
def test_resumed_epoch_continues_at_its_position(length: int, world: int, data: Any) -> None:
    options: dict[str, Any] = {"seed": 5, "shuffle": True, "rank": world - 1, "world_size": world}
    whole = list(EpochSampler(length, position=lambda: (7, 0), **options))
    seen = data.draw(st.integers(0, len(whole)))
    assert list(EpochSampler(length, position=lambda: (7, seen), **options)) == whole[seen:]


def test_epochs_have_different_orders() -> None:
    def order(epoch: int) -> list[int]:
        sampler = EpochSampler(50, seed=0, shuffle=True, position=lambda: (epoch, 0))
        return [key.item for key in sampler]

    assert order(0) != order(1)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 40), st.integers(0, 2))
def test_windows_of_images_are_read_one_after_another(
    images: int, crops: int, window: int, epoch: int
) -> None:
    sampler = EpochSampler(
        images * crops, seed=2, shuffle=True, images=images, window=window,
        position=lambda: (epoch, 0),
    )  # fmt: skip
    items = [key.item for key in sampler]
    assert sorted(items) == list(range(images * crops))
    per_window = window * crops
    windows = [
        {item % images for item in items[first : first + per_window]}
        for first in range(0, len(items), per_window)
    ]
    assert all(len(w) <= window for w in windows)
    assert sum(len(w) for w in windows) == images  # the windows have no common images
    assert [key.item for key in sampler] == items


def test_crops_within_a_window_are_shuffled() -> None:
    sampler = EpochSampler(1000, seed=0, shuffle=True, images=10, window=5)
    first = [key.item % 10 for key in sampler][:500]
    changes = sum(a != b for a, b in pairwise(first))
    assert changes > 300  # expected: 4 of 5 adjacent items differ


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_windows_are_filled_by_size(sizes: list[int], window: int) -> None:
    sampler = EpochSampler(
        2 * len(sizes), seed=4, shuffle=True, images=len(sizes), sizes=np.array(sizes),
        window=window,
    )  # fmt: skip
    order = [key.item % len(sizes) for key in sampler]
    images = np.random.default_rng([4, 0]).permutation(len(sizes)).tolist()
    while images:
        count = 1
        while count < len(images) and sum(sizes[k] for k in images[: count + 1]) <= window:
            count += 1
        assert sorted(order[: 2 * count]) == sorted(2 * images[:count])
        images, order = images[count:], order[2 * count :]
    assert order == []
