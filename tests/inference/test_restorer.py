"""Restorer: image sizes, options and their combinations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mprnet_lit
from mprnet_lit import weights
from mprnet_lit.inference.tile_size import balanced, largest_tile, memory_budget
from mprnet_lit.inference.tiling import starts
from mprnet_lit.models import SIZES, MPRNet
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes
from mprnet_lit.weights import Info


@pytest.fixture(scope="module")
def model() -> MPRNet:
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 1)


@pytest.fixture(scope="module")
def identity() -> MPRNet:
    network = MPRNet(4, 0, 0, 1)
    network.start_from_identity()
    return network


sides = st.integers(1, 64)


@settings(deadline=None, max_examples=40)
@given(
    height=sides,
    width=sides,
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
    tiling=st.fixed_dictionaries(
        {
            "tile": st.sampled_from([None, "auto", 40]),
            "overlap": st.sampled_from([0, 8, 32]),
            "tile_batch": st.sampled_from([1, 4, 7]),
        }
    ),
    ensemble=st.booleans(),
    seed=st.integers(0, 99),
)
def test_identity_model_round_trips_image(
    identity: MPRNet, height: Any, width: Any, dtype: Any, tiling: Any, ensemble: Any, seed: int
) -> None:
    """Padding, tiling, self-ensemble and quantization keep an image of any size and dtype."""
    rng = np.random.default_rng(seed)
    image = rng.random((height, width, 3))
    integer = np.issubdtype(dtype, np.integer)
    image = (image * np.iinfo(dtype).max if integer else image).astype(dtype)
    restorer = mprnet_lit.Restorer(identity, **tiling, self_ensemble=ensemble, device="cpu")
    found = restorer(image)
    assert found.dtype == image.dtype
    np.testing.assert_allclose(found, image, rtol=0, atol=0 if integer else 1e-6)


def test_identity_model_round_trips_a_large_image(identity: MPRNet) -> None:
    image = np.random.default_rng(0).integers(0, 256, (519, 1031, 3), dtype=np.uint8)
    found = mprnet_lit.Restorer(identity, tile=256, device="cpu")(image)
    assert np.array_equal(found, image)


def test_tensors_and_arrays_give_equal_results(model: MPRNet) -> None:
    restorer = mprnet_lit.Restorer(model, device="cpu")
    x = torch.rand(2, 3, 20, 28)
    batch = restorer(x)
    assert batch.shape == x.shape and batch.dtype == torch.float32
    torch.testing.assert_close(restorer(x[1]), batch[1], rtol=0, atol=1e-6)
    array = restorer(x[1].permute(1, 2, 0).numpy())
    np.testing.assert_allclose(array, batch[1].permute(1, 2, 0), rtol=0, atol=1e-6)
    assert batch.min() >= 0 and batch.max() <= 1
    for wrong in (np.zeros(4), np.zeros((4, 4, 5)), np.zeros((0, 4, 3)), torch.zeros(5, 4, 4)):
        with pytest.raises(ValueError, match="must be"):
            restorer(wrong)
    with pytest.raises(ValueError, match="int64"):
        restorer(np.zeros((4, 4, 3), dtype=np.int64))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tile", [None, 48])
def test_integer_pixels_are_those_of_the_float_batch(model: MPRNet, dtype: Any, tile: Any) -> None:
    """Pixels are converted, clamped and rounded on the device, as on the host."""
    peak = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, peak, (70, 90, 3), dtype, endpoint=True)
    restorer = mprnet_lit.Restorer(model, tile=tile, device="cpu")
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / peak
    (restored,) = restorer.restore(x, last_only=True)
    expected = (restored[0].clamp(0, 1) * peak).round().permute(1, 2, 0).numpy().astype(dtype)
    np.testing.assert_array_equal(restorer(image), expected)


def test_stages_equal_the_network_which_stays_unchanged(model: MPRNet) -> None:
    model.train()
    x = torch.rand(1, 3, 24, 40)
    stages = mprnet_lit.Restorer(model, tlc=True, tlc_crop=8, device="cpu").restore(x)
    assert len(stages) == 3
    assert model.training and all(p.requires_grad for p in model.parameters())
    model.eval()
    plain = mprnet_lit.Restorer(model, device="cpu")
    with torch.no_grad():
        for expected, found in zip(model(x), plain.restore(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(plain.restore(x, last_only=True)) == 1


def test_self_ensemble_is_the_mean_over_eight_orientations(model: MPRNet) -> None:
    x = torch.rand(1, 3, 16, 24)
    plain = mprnet_lit.Restorer(model, device="cpu")
    total = torch.zeros_like(x)
    for transposed in (False, True):
        for flips in ((), (2,), (3,), (2, 3)):
            rotated = (x.mT if transposed else x).flip(flips)
            back = plain.restore(rotated)[-1].flip(flips)
            total += (back.mT if transposed else back) / 8
    found = mprnet_lit.Restorer(model, self_ensemble=True, device="cpu").restore(x)[-1]
    torch.testing.assert_close(found, total, rtol=0, atol=1e-6)
    assert (found - plain.restore(x)[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tile", [None, 48])
def test_strength_blends_before_the_only_rounding(model: MPRNet, dtype: Any, tile: Any) -> None:
    peak = np.iinfo(dtype).max
    image = np.random.default_rng(1).integers(0, peak, (50, 61, 4), dtype, endpoint=True)
    x = torch.from_numpy(image[..., :3] / np.float64(peak)).permute(2, 0, 1)[None]
    plain = mprnet_lit.Restorer(model, tile=tile, device="cpu")
    stages = [stage.double() for stage in plain.restore(x)]
    results = {}
    for strength in (0, 0.35, 1):
        restorer = mprnet_lit.Restorer(model, tile=tile, device="cpu", strength=strength)
        assert restorer.settings["strength"] == f"{strength}"
        blends = [x + strength * (stage - x) for stage in stages]
        for found, blend in zip(restorer.restore(x), blends, strict=True):
            torch.testing.assert_close(found.double(), blend, rtol=0, atol=1e-6)
        results[strength] = restorer(image)
        assert results[strength].dtype == dtype
        assert np.array_equal(results[strength][..., 3], image[..., 3]), "alpha is unchanged"
        blend = x + strength * (stages[-1].clamp(0, 1) - x)
        exact = blend[0].permute(1, 2, 0).numpy() * peak
        error = results[strength][..., :3] - exact
        assert np.abs(error).max() <= 0.5 + 1e-6 * peak
    assert np.array_equal(results[0], image), "strength 0 returns the image"
    assert np.array_equal(results[1], plain(image)), "strength 1 returns the restoration"
    assert np.abs(results[1].astype(float) - image).mean() > peak / 255


@pytest.mark.parametrize("precision", ["bf16", "16"])
@pytest.mark.parametrize("tlc", [False, True])
def test_mixed_precision_is_close_to_float32(model: MPRNet, precision: Any, tlc: bool) -> None:
    x = torch.rand(1, 3, 64, 64)
    options: dict[str, Any] = {"tlc": tlc, "tlc_crop": 32 if tlc else None, "device": "cpu"}
    exact = mprnet_lit.Restorer(model, **options).restore(x)[-1]
    mixed = mprnet_lit.Restorer(model, precision=precision, **options).restore(x)[-1]
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).abs().mean() < 0.01


def test_tlc_uses_the_crop_of_the_weights_file(model: MPRNet, tmp_path: Path) -> None:
    weights.save(model, tmp_path / "w.safetensors", Info("denoise", 64))
    restorer = mprnet_lit.Restorer(tmp_path / "w.safetensors", tlc=True)
    assert restorer.settings["TLC"] == "on, training crop 64"
    assert restorer.settings["task"] == "denoise"
    assert isinstance(restorer.network, MPRNet)
    windows: list[Any] = [m.window for m in restorer.network.modules() if hasattr(m, "window")]
    assert max(windows) == (96, 96)


def test_auto_tiles_respect_the_memory_limit(model: MPRNet) -> None:
    restorer = mprnet_lit.Restorer(model, tile="auto", memory_gb=0.01, device="cpu")
    most = largest_tile(model.size, 0.0065e9, False)
    assert restorer._tile(800, 600) == balanced(most, 32, 800, 600) <= most < 256
    assert mprnet_lit.Restorer(model, tile="auto", device="cpu")._tile(64, 80) == 80
    roomy = mprnet_lit.Restorer(model, tile="auto", memory_gb=0.6, device="cpu")
    assert roomy._tile(4000, 6000, images=4) <= roomy._tile(4000, 6000) / 2
    tight = mprnet_lit.Restorer(model, tile="auto", overlap=60, memory_gb=1e-6, device="cpu")
    assert tight(np.zeros((100, 90, 3), np.uint8)).shape == (100, 90, 3)
    cpu = torch.device("cpu")
    assert 0 < memory_budget(cpu, None) <= 1.5e9
    assert free_bytes(cpu) > 1e8
    assert largest_tile(SIZES["large"], 1, True) == 64


@pytest.mark.parametrize(
    ("lengths", "tile", "side"),
    [
        ((1080, 1920), 800, 664),  # 2 x 3 tiles of (1920 + 2 * 32) / 3 = 661.3 pixels
        ((720, 1280), 800, 720),  # one row
        ((2000, 64), 72, 72),  # the smallest tile for an overlap of 60
    ],
)
def test_automatic_tiles_are_as_small_as_their_number_allows(
    lengths: tuple[int, int], tile: int, side: int
) -> None:
    overlap = 60 if tile == 72 else 32
    assert balanced(tile, overlap, *lengths) == side
    counts = {s: [len(starts(n, s, overlap)) for n in lengths] for s in (side, tile)}
    assert counts[side] == counts[tile]


def test_memory_limit_includes_the_image_its_results_and_unfinished_rows(
    model: MPRNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mprnet_lit.inference.tile_size.free_bytes", lambda device: 1e9)
    cpu = torch.device("cpu")
    assert memory_budget(cpu, None) == 0.5e9
    assert memory_budget(cpu, None, 0.2e9) == pytest.approx(0.4e9)
    assert memory_budget(cpu, 0.3, 0.2e9) == pytest.approx(0.1e9)
    restorer = mprnet_lit.Restorer(model, tile="auto", memory_gb=0.05, device="cpu")
    monkeypatch.setattr("mprnet_lit.inference.restorer.balanced", lambda tile, *_: tile)
    for stages, itemsize, held in (1, 1, 6e6), (3, 2, 24e6):  # the image and its results
        whole = largest_tile(model.size, 0.05e9 - held, False)
        rows = 12 * stages * 1000 * whole  # float32
        expected = largest_tile(model.size, 0.05e9 - held - rows, False)
        assert restorer._tile(1000, 1000, stages=stages, itemsize=itemsize) == expected < whole


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tile": 100}, "tile=100 must be 'auto', None, or a multiple of 8 that is at least 40"),
        ({"tile": 32, "overlap": 32}, "tile=32 must be .* at least 40"),
        ({"overlap": -1}, "overlap=-1 must be"),
        ({"tile_batch": 0}, "tile_batch=0 must be"),
        ({"precision": "64"}, "precision=64 must be one of 32, bf16, 16"),
        ({"device": "cuda:99"}, "device=cuda:99 can't be used here"),
        ({"tlc": True, "tlc_crop": 100}, "tlc_crop=100 must be a multiple of 8"),
        ({"tlc_crop": -8}, "tlc_crop=-8 must be a positive number"),
        ({"memory_gb": "much"}, "memory_gb=much must be a positive number"),
    ],
)
def test_invalid_options_raise(model: MPRNet, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        mprnet_lit.Restorer(model, **options)
