"""Crops: same position in both images, and reproducible in any worker and epoch."""

from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import PHOTOS

from mprnet_lit.data import CleanFolder, PairedAugmentation, PairedFolders, Photos, datasets
from mprnet_lit.data.crops import crop
from mprnet_lit.data.datamodule import RestorationDataModule
from mprnet_lit.data.datasets import CropDataset, ImageCache
from mprnet_lit.data.degradations import GaussianNoise, MotionBlur, Nothing, RandomChoice
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.sampling import ItemKey, LazyLoader
from mprnet_lit.data.splits import hold_out
from mprnet_lit.images.reading import read_image
from mprnet_lit.utils.errors import UserError

SATURATION = A.ColorJitter((1, 1), (1, 1), (0.8, 1.2), (0, 0), p=1)
AUGMENTATION = PairedAugmentation([A.D4(p=1), SATURATION])


@pytest.fixture
def pairs(tmp_path: Path) -> Any:
    """Pairs whose target is the negative of the degraded image, which exposes misalignment."""
    photo = np.asarray(Image.open(PHOTOS / "coffee.png").convert("RGB"))
    for k, (h, w) in enumerate([(64, 90), (100, 50), (40, 40)]):
        part = photo[100 : 100 + h, 50 * k : 50 * k + w]
        for side, image in (("in", part), ("gt", 255 - part)):
            path = tmp_path / side / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
    return PairedFolders(tmp_path / "in", tmp_path / "gt").samples("raise")


def test_both_images_get_the_same_crop_and_rotation(pairs: Any) -> None:
    rotation = PairedAugmentation([A.D4(p=1)])
    dataset = CropDataset(
        pairs, crop_size=48, training=True, augmentation=rotation, crops_per_image=10
    )
    items = [dataset[ItemKey(0, k)] for k in range(len(dataset))]
    assert {item["degraded"].shape for item in items} == {(3, 48, 48)}
    for item in items:
        torch.testing.assert_close(item["degraded"], 1 - item["target"], rtol=0, atol=1e-6)
    assert len({item["target"].sum().item() for item in items}) > 20


def test_both_images_get_the_same_color_jitter() -> None:
    image = np.random.default_rng(0).random((16, 16, 3), dtype=np.float32)
    augment = PairedAugmentation([SATURATION])
    target, degraded = augment(image, image.copy(), np.random.default_rng(1))
    np.testing.assert_array_equal(target, degraded)
    assert 1e-3 < np.abs(target - image).mean() < 0.1


def test_image_changed_during_training_raises(pairs: Any) -> None:
    dataset = CropDataset(pairs, crop_size=40, training=True)
    Image.new("RGB", (50, 50)).save(pairs[0].degraded)
    with pytest.raises(UserError, match=r"in/0\.png has changed from 90x64 to 50x50"):
        dataset[ItemKey(0, 0)]


def test_shuffle_window_accounts_for_16_bit_images(tmp_path: Path) -> None:
    for k in range(6):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((40, 40, 3), 9000 * k, np.uint16))
    data = RestorationDataModule(
        CleanFolder(tmp_path), CleanFolder(None), GaussianNoise(5), patch_size=32, batch_size=4,
        crops_per_image=8, num_workers=0, cache_gb=2.5 * 40 * 40 * 6 / 1e9,
    )  # fmt: skip
    data.setup()
    decoded = []

    def counting(path: Path) -> Any:
        decoded.append(path)
        return read_image(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "read_image", counting)
        assert len(list(data.train_dataloader())) == 10
    assert len(decoded) == 5  # each of the five training images once


def test_validation_uses_center_crops_or_whole_images(pairs: Any) -> None:
    center = CropDataset(pairs, crop_size=48, training=False)
    shapes = [tuple(center[ItemKey(0, k)]["target"].shape) for k in range(3)]
    assert shapes == [(3, 48, 48), (3, 48, 48), (3, 40, 40)]
    whole = CropDataset(pairs, crop_size=None, training=False)[ItemKey(0, 0)]["target"]
    assert whole.shape == (3, 64, 90)
    torch.testing.assert_close(center[ItemKey(3, 0)]["target"], whole[:, 8:56, 21:69])


def test_validation_degrades_identically_in_every_epoch() -> None:
    dataset = CropDataset(
        Photos("val").samples("raise"), crop_size=64, training=False, degradation=MotionBlur()
    )
    first, later = (dataset[ItemKey(epoch, 1)]["degraded"] for epoch in (0, 9))
    assert torch.equal(first, later)


def test_only_training_leaves_images_as_they_are() -> None:
    """A clean image has an unbounded PSNR, which would hide the others in a mean."""
    mixture = RandomChoice([Nothing(), GaussianNoise(25)], weights=[9, 1])
    data = RestorationDataModule(
        Photos("train"), Photos("val"), degradation=mixture,
        patch_size=32, batch_size=1, val_crop_size=64,
    )  # fmt: skip
    data.setup()
    loaders = data.train_dataloader(), data.val_dataloader()
    changed = [[not torch.equal(b["degraded"], b["target"]) for b in loader] for loader in loaders]
    assert not all(changed[0]) and changed[1] == [True, True, True]


@pytest.mark.parametrize("workers", [0, 2])
def test_items_depend_only_on_seed_epoch_and_item(workers: int) -> None:
    samples = Photos("train").samples("raise")[:2]

    def read(epoch: int, seed: int = 3) -> torch.Tensor:
        dataset = CropDataset(
            samples, crop_size=32, training=True, degradation=GaussianNoise(),
            augmentation=AUGMENTATION, crops_per_image=3, seed=seed, cache=ImageCache(10**8),
        )  # fmt: skip
        keys = [ItemKey(epoch, k) for k in range(6)]
        loader = LazyLoader(dataset, batch_size=2, sampler=keys, num_workers=workers)
        return torch.cat([batch["degraded"] for batch in loader])

    first = read(0)
    assert torch.equal(first, read(0))
    assert not torch.equal(first, read(1)) and not torch.equal(first, read(0, seed=4))
    assert len({item.sum().item() for item in first}) == 6
    # Independent of the workers, which must not share random numbers.
    direct = CropDataset(
        samples, crop_size=32, training=True, degradation=GaussianNoise(),
        augmentation=AUGMENTATION, crops_per_image=3, seed=3,
    )  # fmt: skip
    assert torch.equal(first, torch.stack([direct[ItemKey(0, k)]["degraded"] for k in range(6)]))


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(-9, 11), st.integers(-9, 11)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_crop_pads_by_reflection(size: tuple[int, int], corner: Any, box: Any) -> None:
    image = np.random.default_rng(0).random((*size, 3))
    top, left = (min(c, s - 1) for c, s in zip(corner, size, strict=True))
    height, width = max(box[0], 1 - top), max(box[1], 1 - left)
    out = crop(image, top, left, height, width)
    assert out.shape == (height, width, 3)
    inside = image[max(top, 0) : top + height, max(left, 0) : left + width]
    at = max(-top, 0), max(-left, 0)
    np.testing.assert_array_equal(
        out[at[0] :, at[1] :][: inside.shape[0], : inside.shape[1]], inside
    )
    assert np.isin(out, image).all()


def test_cache_never_exceeds_its_limit(pairs: Any) -> None:
    sizes = [sample.height * sample.width * 3 for sample in pairs]
    cache = ImageCache(sizes[0] + sizes[1])
    for sample in [*pairs, *pairs]:
        image = cache.read(sample.target)
        assert image.shape == (sample.height, sample.width, 3)
        assert cache.held <= cache.limit
    assert cache.read(pairs[2].target) is cache.read(pairs[2].target)


def test_photo_splits_are_large_and_disjoint() -> None:
    train, val = (Photos(split).samples("raise") for split in ("train", "val"))
    assert not {s.name for s in train} & {s.name for s in val}
    assert all(min(s.height, s.width) >= 256 for s in [*train, *val])


def sample(k: Any) -> Sample:
    return Sample(str(k), PHOTOS / "x.png", None, 64, 64)


@given(st.integers(2, 200), st.floats(0.01, 0.99))
def test_hold_out_splits_off_the_given_share(count: int, share: float) -> None:
    samples = [sample(k) for k in range(count)]
    train, val = hold_out(samples, share)
    assert sorted([*train, *val], key=lambda s: int(s.name)) == samples
    assert train and abs(len(val) - share * count) <= 1


def test_hold_out_rejects_one_image_and_a_share_above_1() -> None:
    with pytest.raises(UserError, match="at least two images are needed"):
        hold_out([sample(0)], 0.1)
    with pytest.raises(UserError, match=r"^holdout=1\.5"):
        hold_out([sample(0), sample(1)], 1.5)


def test_clean_folder_holds_out_a_tenth(tmp_path: Path) -> None:
    for k in range(20):
        Image.new("RGB", (40, 40), (k, k, k)).save(tmp_path / f"{k}.png")
    data = RestorationDataModule(
        CleanFolder(tmp_path), CleanFolder(None), GaussianNoise(25), patch_size=32, batch_size=4
    )
    data.setup()
    assert (len(data.train_samples), len(data.val_samples)) == (18, 2)
    batch = next(iter(data.train_dataloader()))
    assert batch["degraded"].shape == batch["target"].shape == (4, 3, 32, 32)


def test_images_that_exceed_the_cache_are_decoded_once_per_epoch(
    pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counting(path: Path) -> NDArray[Any]:
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(datasets, "read_image", counting)
    held = 2 * 2 * 100 * 90 * 3 / 1e9  # two pairs
    folder = pairs[0].target.parent.parent
    data = RestorationDataModule(
        PairedFolders(folder / "in", folder / "gt"),
        PairedFolders(None, None),
        patch_size=32,
        batch_size=4,
        crops_per_image=20,
        holdout=0.3,
        num_workers=0,
        cache_gb=held / 2,
    )
    data.setup()
    assert len([name for batch in data.train_dataloader() for name in batch["name"]]) == 40
    assert len(decoded) == len(set(decoded)) == 4
