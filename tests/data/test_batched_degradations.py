"""Degradations as batched tensor operations, compared with those of single images."""

from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from numpy.typing import NDArray
from scipy.stats import kstest
from tests.conftest import PHOTOS
from torch.utils.data import default_collate, default_convert

from mprnet_lit.data import PairedAugmentation, Photos, RestorationDataModule
from mprnet_lit.data.degradations import (
    CameraNoise,
    CameraShake,
    Compose,
    Defocus,
    Degradation,
    Downsampling,
    FilmGrain,
    GaussianNoise,
    Haze,
    Jpeg,
    LowLight,
    MotionBlur,
    MovingPart,
    Nothing,
    Quantize,
    RainStreaks,
    RandomChoice,
    RawNoise,
    batched,
    color,
)
from mprnet_lit.data.degrade_on import on_device
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.shared_memory import as_arrays
from mprnet_lit.images.reading import read_image, to_float
from mprnet_lit.models import MPRNet
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils.errors import UserError

DETERMINISTIC = {
    "blur": MotionBlur(noise=0),
    "long blur": MotionBlur(length=(30, 60), noise=0),
    "no blur": MotionBlur(length=0, noise=0),
    "shake": CameraShake(),
    "no shake": CameraShake(length=0, defocus=0),
    "moving part": MovingPart(length=(5, 20), defocus=(1, 4)),
    "rain": RainStreaks(),
    "wide rain": RainStreaks(layers=(2, 5), width=(1, 12), angle=60, haze=(0, 0.3)),
    "sheets of rain": RainStreaks(
        layers=(1, 4), density=4000, directions=(1, 3), motion=(0, 1), occlusion=(0, 1), level=0.8
    ),
    "haze": Haze(),
    "defocus": Defocus(noise=0),
    "downsampling": Downsampling((1, 5)),
    "no noise": GaussianNoise(0, clip=True),
    "nothing": Nothing(),
    "nothing or blur": RandomChoice([Nothing(), MotionBlur(noise=0)]),
    "raw": RawNoise(),
    "grain": FilmGrain(),
    "8 bits": Quantize(),
}
RANDOM = {
    "gaussian": GaussianNoise((5, 50)),
    "camera": CameraNoise(),
    "camera of one noise level": CameraNoise(shot=4e-3, read=0.01),
    "blur": MotionBlur(length=(2, 8), noise=2e-3),
    "defocus in low light": Compose([Defocus(radius=(0, 4)), LowLight()]),
    "rain": Compose([RainStreaks(haze=(0, 0.2), motion=(0, 1), occlusion=(0, 1)), Haze()]),
    "choice": RandomChoice([GaussianNoise(10), CameraNoise(), RainStreaks()], [2, 1, 1]),
    "compose": Compose([MotionBlur(length=4), RainStreaks(), GaussianNoise(10)]),
}


@pytest.fixture(scope="module")
def photo() -> NDArray[np.float32]:
    return to_float(read_image(Path(PHOTOS) / "astronaut.png"))[100:260, 100:300]


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def degraded(degradation: Degradation, images: list[Any], seeds: list[int]) -> NDArray[np.float32]:
    """Degrade images (H, W, 3) as a batch: (B, H - 2 * margin, W - 2 * margin, 3)."""
    clean = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    draws = [degradation.draw(images[0].shape[:2], rng(seed)) for seed in seeds]
    batch = degradation.degrade_batch(clean, default_collate(default_convert(draws)))
    return np.asarray(batch.permute(0, 2, 3, 1))


def inner(image: Any, margin: int) -> Any:
    return image[margin : len(image) - margin, margin : image.shape[1] - margin]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_same_draw_gives_the_same_image(name: str, photo: NDArray[np.float32]) -> None:
    degradation = DETERMINISTIC[name]
    seeds = list(range(6))
    images = [np.rot90(photo, 2 * seed).copy() for seed in seeds]
    tolerance = 1e-5
    if isinstance(degradation, CameraShake):  # OpenCV 4 rounds positions to 1/32 pixel
        tolerance = 2e-2 if cv2.__version__ < "5" else 3e-5
    batch = degraded(degradation, images, seeds)
    single = [degradation(image, rng(s)) for image, s in zip(images, seeds, strict=True)]
    expected = np.stack([inner(image, degradation.margin) for image in single])
    np.testing.assert_allclose(batch, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", RANDOM)
def test_distribution_is_that_of_single_images(name: str, photo: NDArray[np.float32]) -> None:
    degradation, count = RANDOM[name], 200
    margin = degradation.margin
    clean = photo[40 : 80 + 2 * margin, 60 : 100 + 2 * margin]
    batch = degraded(degradation, [clean] * count, list(range(count)))
    single = [inner(degradation(clean, rng(count + k)), margin) for k in range(count)]
    ours, theirs = (np.asarray(images) - inner(clean, margin) for images in (batch, single))
    for statistic, values in statistics(ours).items():
        assert kstest(values, statistics(theirs)[statistic]).pvalue > 1e-3, statistic
    found, expected = histograms(ours), histograms(theirs)
    error = np.sqrt((found.var(0) + expected.var(0)) / count)
    assert (np.abs(found.mean(0) - expected.mean(0)) <= 4 * error + 1e-3).all()


def histograms(change: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cumulative histogram of the change of each image: (B, 30)."""
    edges = np.linspace(-0.3, 0.3, 30)  # without 0, the change of many clipped pixels
    return np.stack([np.searchsorted(np.sort(x, None), edges) / x.size for x in change])


def statistics(change: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return statistics of the change of each image: moments, correlations and spectrum."""
    axes = (1, 2, 3)
    centered = change - change.mean(axes, keepdims=True)

    def correlation(a: Any, b: Any) -> Any:
        return (a * b).mean(axes) / np.maximum(a.std(axes) * b.std(axes), 1e-9)

    power = np.abs(np.fft.rfft2(centered, axes=(1, 2))).mean(3)
    rows, columns = (np.fft.fftfreq(power.shape[1])[:, None], np.fft.rfftfreq(change.shape[2]))
    frequency = np.hypot(rows, columns)
    return {
        "mean": change.mean(axes),
        "deviation": change.std(axes),
        "fourth moment": (centered**4).mean(axes),
        "across": correlation(centered[:, :, 1:], centered[:, :, :-1]),
        "down": correlation(centered[:, 1:], centered[:, :-1]),
        "channels": correlation(centered[..., 0:2], centered[..., 1:3]),
        "low frequencies": power[:, frequency < 0.15].mean(1),
        "high frequencies": power[:, frequency > 0.35].mean(1),
    }


def test_noise_is_white_normal_and_depends_on_the_seed_only() -> None:
    seeds = torch.tensor([5, 6, 2**63 - 1, 0])
    noise = batched.normal_noise(seeds, (3, 101, 99))
    assert kstest(noise.flatten(), "norm").pvalue > 0.01
    spectrum = torch.fft.rfft2(noise).abs().square().mean((0, 1)) / noise[0, 0].numel()
    assert spectrum.mean() == pytest.approx(1, abs=0.02)
    assert spectrum.max() < 4  # the mean of 12 exponential values
    products = noise.flatten(1).corrcoef().fill_diagonal_(0)
    assert products.abs().max() < 0.03
    assert torch.equal(noise[1:2], batched.normal_noise(seeds[1:2], (3, 101, 99)))


def test_color_conversion_equals_that_of_arrays() -> None:
    values = np.linspace(-0.1, 1.1, 5001, dtype=np.float32)
    for name in ("srgb_to_linear", "linear_to_srgb"):
        ours, theirs = (getattr(m, name) for m in (batched, color))
        np.testing.assert_allclose(ours(torch.from_numpy(values)), theirs(values), atol=1e-6)


class Inverted(Degradation):
    """A degradation of a user, without an implementation for the device."""

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        return 1 - image


class Overridden(MotionBlur):
    """A degradation of a user that changes a published one."""

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        return super().__call__(image, rng) ** 2


class Renamed(MotionBlur):
    """A degradation of a user that only has other defaults."""


@pytest.mark.parametrize(
    ("degradation", "names"),
    [
        (Renamed(), []),
        (Compose([MotionBlur(), RandomChoice([CameraNoise(), RainStreaks()])]), []),
        (Inverted(), ["Inverted"]),
        (Overridden(), ["Overridden"]),
        (
            RandomChoice([GaussianNoise(), Compose([Inverted(), Jpeg()]), Jpeg()]),
            ["Inverted", "Jpeg"],
        ),
    ],
)
def test_degradation_names_the_classes_that_need_the_cpu(
    degradation: Degradation, names: list[str]
) -> None:
    assert degradation.cpu_only() == names
    if names:
        with pytest.raises(UserError, match=f"degrade_on=device .* {names[-1]} can only"):
            make_data(degradation)
        assert not make_data(degradation, degrade_on="auto").degrades_on_device()


def make_data(degradation: Degradation, **options: Any) -> RestorationDataModule:
    settings: dict[str, Any] = {"batch_size": 4, "num_workers": 0, "degrade_on": "device"}
    data = RestorationDataModule(
        Photos("train"), Photos("val"), degradation, PairedAugmentation([A.D4(p=1)]),
        patch_size=32, val_crop_size=32, crops_per_image=2, seed=3, **(settings | options),
    )  # fmt: skip
    data.setup()
    return data


def patches(data: RestorationDataModule, count: int) -> dict[str, torch.Tensor]:
    """Return the first training patches, as Lightning passes them to the module."""
    batches = islice(data.train_dataloader(), count // data.batch_size)
    ready = [data.on_after_batch_transfer(batch, 0) for batch in batches]
    assert ready[0].keys() == {"degraded", "target", "name", "weight"}
    return {name: torch.cat([batch[name] for batch in ready]) for name in ("degraded", "target")}


def test_patches_do_not_depend_on_the_batch_or_the_workers() -> None:
    degradation = Compose([MotionBlur(length=(5, 9)), GaussianNoise()])
    deferred = patches(make_data(degradation), 8)
    other = patches(make_data(degradation, batch_size=2, num_workers=2), 8)
    on_cpu = patches(make_data(degradation, degrade_on="cpu"), 8)
    torch.testing.assert_close(deferred["degraded"], other["degraded"], rtol=0, atol=1e-6)
    for batches in (deferred, other):
        assert torch.equal(batches["target"], on_cpu["target"])
    assert not torch.equal(deferred["degraded"], on_cpu["degraded"])
    errors = [(b["degraded"] - b["target"]).std().item() for b in (deferred, on_cpu)]
    assert errors[0] == pytest.approx(errors[1], rel=0.2)


def test_validation_is_degraded_on_the_cpu() -> None:
    first, second = (
        next(iter(make_data(MotionBlur(), degrade_on=place).val_dataloader()))
        for place in ("cpu", "device")
    )
    assert torch.equal(first["degraded"], second["degraded"]) and "draws" not in second


def test_auto_selects_an_accelerator_for_clean_images_only() -> None:
    clean = Sample("a", PHOTOS / "a.png", None, 64, 64)
    paired = replace(clean, degraded=clean.target)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    blur = MotionBlur()
    assert on_device("auto", blur, [clean], gpu) and on_device("device", blur, [clean], cpu)
    assert not on_device("auto", blur, [clean], cpu) and not on_device("cpu", blur, [clean], gpu)
    assert not on_device("auto", blur, [clean, paired], gpu)
    assert not on_device("auto", Jpeg(), [clean], gpu) and not on_device("auto", None, [clean], gpu)
    with pytest.raises(UserError, match="Jpeg can only run on the CPU"):
        Jpeg().draw((8, 8), rng(0))
    with pytest.raises(UserError, match="degrade_on=gpu must be one of auto, cpu, device"):
        make_data(blur, degrade_on="gpu")


def test_draws_round_trip_through_pipes() -> None:
    degradation = RandomChoice([MotionBlur(), Compose([RainStreaks(), GaussianNoise()])])
    draws = [{"draws": default_convert(degradation.draw((64, 64), rng(k)))} for k in range(3)]
    batch, usual = default_convert(as_arrays(draws)), default_collate(draws)
    torch.testing.assert_close(batch, usual, rtol=0, atol=0)


def test_training_resumed_in_mid_epoch_gets_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = RestorationModule.training_step, []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        seen.append(batch["degraded"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(RestorationModule, "training_step", training_step)

    class Save(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "mid_epoch.ckpt")

    def fit(checkpoint: Path | None = None) -> None:
        trainer = Trainer(
            max_epochs=1, limit_val_batches=0, logger=False, accelerator="cpu", callbacks=[Save()],
            enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path,
        )  # fmt: skip
        model, optimizer = MPRNet(4, 0, 0, 1), partial(torch.optim.SGD, lr=1e-6)
        module = RestorationModule(model, MultiStageLoss(), optimizer)
        data = make_data(MotionBlur(), batch_size=2)
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)

    fit()
    fit(tmp_path / "mid_epoch.ckpt")
    assert len(seen) == 7
    assert all(map(torch.equal, seen[3:5], seen[5:]))
    assert not torch.equal(seen[0], seen[1])
