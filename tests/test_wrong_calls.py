"""Wrong calls of every public function: the error must name the invalid argument."""

# mypy: disable-error-code="arg-type, call-overload, list-item"

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

import mprnet_lit
from mprnet_lit import Restorer, data, metrics, models, tracking, weights
from mprnet_lit.data import augmentation, sources
from mprnet_lit.data import degradations as degrade
from mprnet_lit.data.degradations import base, motion, noise
from mprnet_lit.export import check, to_onnx, trace
from mprnet_lit.inference import tlc
from mprnet_lit.metrics import quality
from mprnet_lit.training import losses, module, schedule
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import shipped

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
X, SMALL = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 8, 8)
IMAGE = np.zeros((16, 16, 3), np.float32)
TINY = models.MPRNet(4, 0, 0, 1)
ADAM = torch.optim.Adam(TINY.parameters())
STEPS: dict[str, Any] = {"epochs": 3, "steps_per_epoch": 2}


def images(call: Callable[..., Any]) -> list[Callable[[], object]]:
    """Return calls of a degradation with invalid images and generators."""
    return [
        lambda: call(IMAGE[..., 0], RNG),
        lambda: call(IMAGE[:0], RNG),
        lambda: call(IMAGE.astype(np.uint8), RNG),
        lambda: call("photo.png", RNG),
        lambda: call(IMAGE, 3),
    ]


def pairs(call: Callable[..., Any]) -> list[Callable[[], object]]:
    """Return calls of a comparison with different shapes or invalid images."""
    return [
        lambda: call(X, SMALL),
        lambda: call(X.numpy(), X.numpy()),
        lambda: call(None, X),
        lambda: call(X, "photo.png"),
    ]


def batches(call: Callable[..., Any]) -> list[Callable[[], object]]:
    return [*pairs(call), lambda: call(X[0], X[0]), lambda: call(X[:0], X[:0])]


def protocol(name: str) -> list[Callable[[], object]]:
    return batches(lambda x, y: metrics.PROTOCOLS[name]().update(0, x, y))


def build(**changed: Any) -> Callable[[], LambdaLR]:
    return lambda: schedule.WarmupCosine().build(ADAM, **STEPS | changed)


loss = losses.MultiStageLoss()
CALLS: dict[str, list[Callable[[], object]]] = {
    "Restorer": [
        lambda: Restorer(None),
        lambda: Restorer(torch.nn.Identity()),
        lambda: Restorer("none.pth"),
        lambda: Restorer(TINY, device=None),
        lambda: Restorer(TINY, device="none"),
        lambda: Restorer(TINY, overlap=None),
        lambda: Restorer(TINY, tile=True),
        lambda: Restorer(TINY, tile_batch="1"),
        lambda: Restorer(TINY, precision=None),
        lambda: Restorer(TINY, tlc="yes"),
        lambda: Restorer(TINY, self_ensemble=None),
        lambda: Restorer(TINY, memory_gb=float("inf")),
        lambda: Restorer(TINY, strength=1.1),
        lambda: Restorer(TINY, strength="half"),
        lambda: Restorer(TINY, strength=float("nan")),
        lambda: Restorer(TINY, device="cpu")(None),
        lambda: Restorer(TINY, device="cpu")(IMAGE, progress=3),
        lambda: Restorer(TINY, device="cpu").restore(IMAGE),
        lambda: Restorer(TINY, device="cpu").restore(X[0]),
        lambda: Restorer(TINY, device="cpu").restore(X.int()),
    ],
    "MPRNet": [
        lambda: models.MPRNet(0, 4, 4, 1),
        lambda: models.MPRNet("8", 4, 4, 1),
        lambda: models.MPRNet.from_size("huge"),
        lambda: models.MPRNet.from_size([]),
        lambda: models.MPRNet.from_pretrained("ftp://host/w.pth"),
        lambda: TINY.save_pretrained(None),
        lambda: TINY.save_pretrained("net", info={"task": "denoise"}),
        lambda: TINY.push_to_hub(None),
        lambda: TINY(X[..., :12]),
        lambda: TINY(X[0]),
        lambda: TINY(X.numpy()),
    ],
    "Size": [lambda: models.Size(8, 4, 4, 1, reduction=9), lambda: models.Size(None, 4, 4, 1)],
    "CharbonnierLoss": [
        *pairs(losses.CharbonnierLoss()),
        lambda: losses.CharbonnierLoss(-1),
        lambda: losses.CharbonnierLoss("a"),
    ],
    "EdgeLoss": [*batches(losses.EdgeLoss()), lambda: losses.EdgeLoss(None)],
    "MultiStageLoss": [
        *pairs(lambda x, y: loss((x,), y)),
        lambda: loss((), X),
        lambda: loss(X, X),
        lambda: loss(None, X),
        lambda: losses.MultiStageLoss(edge_weight=-1),
    ],
    "L1Loss": [*pairs(lambda x, y: losses.L1Loss()((x,), y))],
    "PSNRLoss": [lambda: losses.PSNRLoss(eps=0), lambda: losses.PSNRLoss(eps="a")],
    "FrequencyLoss": [lambda: losses.FrequencyLoss(-1), lambda: losses.FrequencyLoss("a")],
    "PerceptualLoss": [
        lambda: losses.PerceptualLoss(-1),
        lambda: losses.PerceptualLoss(vgg=3),
        lambda: losses.PerceptualLoss(vgg="none.pth"),
    ],
    "warmup_cosine": [
        lambda: schedule.warmup_cosine("1", 1, 1, 0),
        lambda: schedule.warmup_cosine(-1, 1, 1, 0),
        lambda: schedule.warmup_cosine(1, 1, None, 0),
    ],
    "WarmupCosine": [
        lambda: schedule.WarmupCosine().build(None, **STEPS),
        *(build(**{name: value}) for name in STEPS for value in (-1, "a")),
        *(
            partial(schedule.WarmupCosine, **{name: value})
            for name in ("warmup_epochs", "extra_period", "final_lr")
            for value in (-1, "a")
        ),
        build(epochs=0),
        build(steps_per_epoch=0),
    ],
    "move": [lambda: schedule.move(None, 1), lambda: schedule.move(build()(), -1)],
    "RestorationModule": [
        lambda: module.RestorationModule(None, loss, torch.optim.Adam),
        lambda: module.RestorationModule(TINY, None, torch.optim.Adam),
        lambda: module.RestorationModule(TINY, loss, "adam"),
        lambda: module.RestorationModule(TINY, loss, torch.optim.Adam, 3),
    ],
    "RestorationDataModule": [
        lambda: data.RestorationDataModule(None, None),
        lambda: data.RestorationDataModule("photos", "photos"),
        lambda: data.RestorationDataModule(sources.Photos("train"), sources.Photos("val"),
                                           patch_size=100),
    ],
    "Photos": [lambda: sources.Photos("test").samples("raise")],
    "CleanFolder": [
        lambda: sources.CleanFolder("none").samples("raise"),
        lambda: sources.CleanFolder(3).samples("raise"),
    ],
    "PairedFolders": [
        lambda: sources.PairedFolders("none", "none").samples("raise"),
        lambda: sources.PairedFolders(3, 4).samples("raise"),
    ],
    "Prepared": [
        lambda: data.Prepared("none", "train").samples("raise"),
        lambda: data.Prepared(None, "train").samples("raise"),
        lambda: data.Prepared("none", "test").samples("raise"),
    ],
    "Shards": [
        lambda: data.Shards("none", "train").shards(),
        lambda: data.Shards(None, "train").shards(),
        lambda: data.Shards("none", "test").shards(),
        lambda: data.Shards("none", "train").samples("raise"),
    ],
    "ShardDataModule": [
        lambda: data.ShardDataModule(None, None),
        lambda: data.ShardDataModule(data.Shards("none", "train"), data.Shards("none", "val"),
                                     patch_size=100),
    ],
    "PairedAugmentation": [
        lambda: augmentation.PairedAugmentation(None),
        lambda: augmentation.PairedAugmentation(["flip"]),
        *images(lambda image, rng: augmentation.PairedAugmentation([])(image, None, rng)),
        lambda: augmentation.PairedAugmentation([])(IMAGE, IMAGE[1:], RNG),
    ],
    "RandomChoice": [lambda: degrade.RandomChoice(None), lambda: degrade.RandomChoice([3])],
    "Compose": [lambda: degrade.Compose(()), lambda: degrade.Compose(["noise"])],
    "GaussianNoise": [*images(degrade.GaussianNoise()), lambda: degrade.GaussianNoise("a")],
    "RawNoise": [*images(degrade.RawNoise()), lambda: degrade.RawNoise(filtered=2)],
    "FilmGrain": [*images(degrade.FilmGrain()), lambda: degrade.FilmGrain(size=9)],
    "Nothing": images(degrade.Nothing()),
    "Quantize": images(degrade.Quantize()),
    "Patterns": [
        *images(data.Patterns()),
        lambda: data.Patterns(2),
        lambda: data.Patterns(kinds="text"),
        lambda: data.Patterns(kinds=[]),
        lambda: data.Patterns(kinds=["fences"]),
    ],
    "CameraNoise": [*images(degrade.CameraNoise()), lambda: degrade.CameraNoise(shot=(1, 0))],
    "MotionBlur": [*images(degrade.MotionBlur()), lambda: degrade.MotionBlur(length=None)],
    "CameraShake": [*images(degrade.CameraShake()), lambda: degrade.CameraShake(light="dim")],
    "MovingPart": [*images(degrade.MovingPart()), lambda: degrade.MovingPart(area=2)],
    "RainStreaks": [*images(degrade.RainStreaks()), lambda: degrade.RainStreaks(width=-1)],
    "Defocus": [*images(degrade.Defocus()), lambda: degrade.Defocus(radius=51)],
    "Downsampling": [*images(degrade.Downsampling()), lambda: degrade.Downsampling(0.5)],
    "LowLight": [*images(degrade.LowLight()), lambda: degrade.LowLight(exposure=2)],
    "Haze": [*images(degrade.Haze()), lambda: degrade.Haze(relief=2)],
    "Jpeg": [*images(degrade.Jpeg()), lambda: degrade.Jpeg(0), lambda: degrade.Jpeg(90, 420)],
    "checked_range": [lambda: base.checked_range(degrade.Jpeg(), "quality", (1, 2, 3))],
    "camera_path": [lambda: motion.camera_path(None, 1), lambda: motion.camera_path(RNG, 2)],
    "motion_kernel": [
        lambda: degrade.motion_kernel(RNG, -1),
        lambda: degrade.motion_kernel(RNG, "long"),
        lambda: degrade.motion_kernel(0, 5),
    ],
    "add_sensor_noise": [
        *images(lambda image, rng: noise.add_sensor_noise(image, 0.1, 0.1, rng)),
        lambda: noise.add_sensor_noise(IMAGE, -1, 0.1, RNG),
    ],
    "typical_read_noise": [
        lambda: noise.typical_read_noise(-1, RNG),
        lambda: noise.typical_read_noise(0.1, None),
    ],
    "with_tlc": [
        lambda: tlc.with_tlc(None, 8),
        lambda: tlc.with_tlc(TINY, 12),
        lambda: tlc.with_tlc(TINY, "8"),
    ],
    "window_mean": [lambda: tlc.window_mean(X[0], 2, 2), lambda: tlc.window_mean(X, 0, 2)],
    "psnr": batches(metrics.psnr),
    "ssim": batches(metrics.ssim),
    "ssim_volume": batches(metrics.ssim_volume),
    "ssim_map": [*pairs(quality.ssim_map), lambda: quality.ssim_map(X, X, None)],
    "local_mean": [lambda: quality.local_mean(SMALL), lambda: quality.local_mean(IMAGE)],
    "psnr_from_mse": [lambda: quality.psnr_from_mse(0.1)],
    "luma": [lambda: metrics.luma(X[:, :1]), lambda: metrics.luma(None)],
    "realblur_scores": [
        lambda: metrics.realblur_scores(IMAGE, IMAGE[1:]),
        lambda: metrics.realblur_scores(IMAGE[..., 0], IMAGE[..., 0]),
        lambda: metrics.realblur_scores(X, X),
    ],
    "mean_scores": [lambda: metrics.mean_scores([]), lambda: metrics.mean_scores(None)],
    "RgbProtocol": protocol("rgb"),
    "DeblurProtocol": protocol("deblur"),
    "DerainProtocol": protocol("derain"),
    "RealBlurProtocol": protocol("realblur"),
    "SiddProtocol": protocol("sidd"),
    "load_weights": [
        lambda: mprnet_lit.load_weights("none.pth"),
        lambda: mprnet_lit.load_weights(3),
    ],
    "load": [lambda: weights.load("none.pth"), lambda: weights.load(None)],
    "read": [lambda: weights.read(str(ROOT / "README.md")), lambda: weights.read(3)],
    "save": [
        lambda: weights.save(TINY, "w.exe"),
        lambda: weights.save(None, "w.pth"),
        lambda: weights.save(TINY, None),
        lambda: weights.save(TINY, "w.pth", info={"task": "denoise"}),
    ],
    "Info": [
        lambda: weights.Info(crop=0),
        lambda: weights.Info(task=3),
        lambda: weights.Info(change=-1),
        lambda: weights.Info(change="12"),
        lambda: weights.Info.of(3),
        lambda: weights.Info.of({"crop": "8"}),
    ],
    "shipped": [lambda: shipped.shipped("dehaze"), lambda: shipped.shipped(None)],
    "trace": [lambda: trace(None)],
    "check": [lambda: check(None, TINY), lambda: check(TINY, None)],
    "to_onnx": [lambda: to_onnx(None), lambda: to_onnx(TINY)],
    "EMA": [lambda: tracking.EMA("0.9"), lambda: tracking.EMA(2)],
    "Panels": [lambda: tracking.Panels(None), lambda: tracking.Panels("panels", 0)],
    "Summary": [lambda: tracking.Summary(None)],
}  # fmt: skip
WITHOUT_INVALID_CALLS = {
    *("Degradation", "BatchDegradation", "Source", "PerImageMetric", "Protocol"),  # base classes
    "StageLoss",
    "ImageQuality",
    *("Sample", "Weights", "UserError", "RefusedError", "Monitor", "Progress"),  # accept anything
    "clamp_unit",  # accepts any tensor
    *("LocalChannelAttention", "TileCounts"),  # created by with_tlc and by the evaluation
    "PerceptualScores",  # tested in tests/metrics/test_protocols.py
    "install_hint",  # tested in tests/test_package.py
    # Built from the configuration, whose values tests/config/test_values.py checks.
    *("CheckpointStates", "CollapseWarning", "LogRun", "OutOfMemoryAdvice", "PeerCheck"),
    *("SkipNonFinite", "StopOnSignal"),
}


def documented() -> set[Any]:
    """Return the names of classes and functions in docs/reference/api.md and in ``__all__``."""
    names = set()
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    for target in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
        home, _, name = target.rpartition(".")
        if inspect.isclass(getattr(importlib.import_module(home), name, None)):
            names.add(name)
            continue
        found = vars(importlib.import_module(target)).items()
        ours = {name for name, value in found if getattr(value, "__module__", "") == target}
        names |= {
            name for name in ours if not name.startswith("_") and callable(found.mapping[name])
        }
    packages = [
        info.name
        for info in pkgutil.walk_packages(mprnet_lit.__path__, "mprnet_lit.")
        if info.ispkg
    ]
    for name in ["mprnet_lit", *packages]:
        package = importlib.import_module(name)
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                names.add(name)
    return names


def test_every_documented_function_is_called() -> None:
    assert documented() - WITHOUT_INVALID_CALLS == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_wrong_call_raises_a_user_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, call in enumerate(CALLS[name]):
        with pytest.raises(UserError) as raised:
            call()
        assert " " in str(raised.value), number
    assert not list(tmp_path.iterdir())
