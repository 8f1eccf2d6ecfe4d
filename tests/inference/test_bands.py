"""Restoration in bands: self-ensemble, order of the rows, and memory of a large photo."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

import mprnet_lit
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.inference import tiling
from mprnet_lit.inference.ensemble import SELF_ENSEMBLE
from mprnet_lit.inference.tiling import Tiling, join, run_in_bands, run_tiled
from mprnet_lit.models import MPRNet
from mprnet_lit.models.padding import pad_to_multiple
from mprnet_lit.utils.hardware import peak_resident


def ramps(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Network whose output depends on the position in the tile and on the orientation."""
    rows = torch.linspace(0.5, 1, tiles.shape[-2])[:, None]
    return tiles * rows + torch.linspace(0, 0.3, tiles.shape[-1]), tiles - 0.1 * rows


@pytest.mark.parametrize(
    ("height", "width", "tile", "batch_size"),
    [(83, 61, 40, 1), (83, 61, 48, 3), (5, 100, 40, 4), (45, 30, 64, 2)],
)
def test_self_ensemble_in_bands_is_the_mean_of_whole_orientations(
    height: int, width: int, tile: int, batch_size: int
) -> None:
    """Each orientation has its own tiles, from the corner of the rotated and padded image."""
    image = torch.rand(2, 3, height, width)
    expected = [torch.zeros_like(image) for _ in range(2)]
    for mirrored in (False, True):
        for turns in range(4):
            rotated = torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))
            padded = pad_to_multiple(rotated)
            down, right = rotated.shape[-2:]
            for total, output in zip(expected, run_tiled(ramps, padded, tile, 32), strict=True):
                back = torch.rot90(output[..., :down, :right], -turns, (-2, -1))
                total += (back.flip(-1) if mirrored else back) / 8
    calls: list[tuple[int, int]] = []
    tiling = Tiling(tile, 32, batch_size, SELF_ENSEMBLE)
    bands = run_in_bands(
        ramps,
        lambda rows, columns: image[..., rows, columns],
        (height, width),
        tiling,
        image.device,
        lambda *call: calls.append(call),
    )
    for found, total in zip(join(bands, height), expected, strict=True):
        torch.testing.assert_close(found, total, rtol=0, atol=1e-6)
    assert calls == sorted(calls) and calls[-1][0] == calls[-1][1] == calls[0][1]


def test_rows_are_finished_from_top_to_bottom_and_held_for_one_tile() -> None:
    image = torch.rand(1, 3, 203, 50)
    tops = [0]
    for top, (band,) in run_in_bands(
        lambda tiles: [tiles],
        lambda rows, columns: image[..., rows, columns],
        (203, 50),
        Tiling(48, 16, 1, SELF_ENSEMBLE),
        image.device,
    ):
        assert top == tops[-1]
        tops.append(top + band.shape[-2])
        assert 0 < band.shape[-2] <= 48
        torch.testing.assert_close(band, image[..., top : tops[-1], :], rtol=0, atol=1e-6)
    assert tops[-1] == 203 and len(tops) > 6


def test_tiles_of_frames_of_one_size_are_computed_once() -> None:
    restorer = mprnet_lit.Restorer(MPRNet(8, 4, 4, 1), tile=24, overlap=8, device="cpu")
    restorer.network = lambda tiles: [tiles]
    tiling._grid.cache_clear()
    for seed in range(3):
        frame = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), np.uint8)
        np.testing.assert_array_equal(restorer(frame), frame)
    assert tiling._grid.cache_info().misses == 2  # the rows and the columns


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_rounded_and_not_a_number_gives_no_warning(dtype: Any) -> None:
    peak = np.iinfo(dtype).max
    restorer = mprnet_lit.Restorer(MPRNet(8, 4, 4, 1), device="cpu")
    outputs = torch.tensor([-1, 0, 0.4, 0.6, 100.4, 100.6, peak, peak + 9])
    restorer.network = lambda tiles: [(outputs / peak).expand_as(tiles).clone()]
    restored = restorer(np.zeros((8, 8, 3), dtype))
    assert restored.dtype == dtype
    assert (restored == np.array([0, 0, 0, 1, 100, 101, peak, peak])[:, None]).all()
    restorer.network = lambda tiles: [tiles * torch.nan]
    restorer(np.zeros((8, 8, 3), dtype))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak memory can be reset")
@pytest.mark.parametrize(("suffix", "ensemble"), [("jpg", True), ("png", False), ("tif", False)])
def test_photo_is_restored_without_copies_in_floating_point(
    tmp_path: Path, suffix: str, ensemble: bool
) -> None:
    """Peak memory of reading, restoring and writing, with an identity network.

    The photo and its result have 3 bytes per pixel each, and Pillow's copy for writing has 4. Small
    photos also fragment the heap (benchmarks/scaling/large_photos.py measures large photos).
    """
    coarse = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    pixels = np.asarray(cv2.resize(coarse, (2100, 1400)), np.uint8)
    restorer = mprnet_lit.Restorer(
        MPRNet(8, 4, 4, 1), tile=128, overlap=16, self_ensemble=ensemble, device="cpu"
    )
    restorer.network = lambda tiles: [tiles]
    path = tmp_path / f"photo.{suffix}"

    def restore() -> Any:
        photo = read_photo(path)
        restored = restorer(photo.pixels)
        write_photo(path.with_stem("restored"), replace(photo, pixels=restored))
        return photo.pixels, restored

    write_photo(path, Photo(pixels[:300, :300]))
    restore()  # imports and buffers
    write_photo(path, Photo(pixels))
    del pixels
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before = psutil.Process().memory_info().rss
    original, restored = restore()
    grown = peak_resident() - before
    assert np.array_equal(original, restored)
    assert grown < 16 * original.size / 3
