"""Test-time local converter (TLC) compared with its definition."""

from typing import Any

import pytest
import torch
from scipy.ndimage import uniform_filter1d

from mprnet_lit.inference.tlc import LocalChannelAttention, window_mean, with_tlc
from mprnet_lit.models import SIZES, MPRNet
from mprnet_lit.models.blocks import ChannelAttention


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return MPRNet(8, 4, 4, 2).eval()


@pytest.mark.parametrize("window", [(1, 1), (3, 4), (5, 2), (9, 7), (20, 3), (20, 20)])
def test_window_mean_equals_average_pooling(window: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 9, 7, dtype=torch.float64).float()
    height, width = min(window[0], 9), min(window[1], 7)
    expected = torch.nn.functional.avg_pool2d(x.double(), (height, width), stride=1)
    torch.testing.assert_close(window_mean(x, *window).double(), expected, rtol=0, atol=1e-6)


def test_attention_is_local_and_replicated_at_the_borders() -> None:
    """The attention of a pixel follows from the mean over the window around it."""
    torch.manual_seed(1)
    attention = ChannelAttention(8, 4)
    x = torch.rand(1, 8, 13, 11)
    height, width = 6, 5
    found = LocalChannelAttention(attention, (height, width))(x)
    for row, column in ((0, 0), (6, 5), (12, 10), (3, 9)):
        top = min(max(row - (height - 1) // 2, 0), 13 - height)
        left = min(max(column - (width - 1) // 2, 0), 11 - width)
        mean = x[..., top : top + height, left : left + width].mean((2, 3), keepdim=True)
        gate = attention.expand(attention.reduce(mean).relu()).sigmoid()
        expected = (x[..., row : row + 1, column : column + 1] * gate).flatten()
        torch.testing.assert_close(found[0, :, row, column], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_window_is_one_and_a_half_times_the_training_feature_map(size: Any) -> None:
    with torch.device("meta"):
        local = with_tlc(MPRNet.from_size(size), 256)
    windows = {n: m.window for n, m in local.named_modules() if hasattr(m, "window")}
    attentions = [n for n, m in local.named_modules() if isinstance(m, ChannelAttention)]
    assert sorted(windows) == sorted(attentions)
    # Stages 1, 2 and 3 see quadrants, halves and the whole of 256x256; each level halves the size.
    assert windows["shallow1.1.attention"] == (192, 192)
    assert windows["encoder1.level3.0.attention"] == (48, 48)
    assert windows["decoder1.level1.1.attention"] == (192, 384)
    assert windows["decoder1.skip2.attention"] == (96, 192)
    assert windows["encoder2.level2.0.attention"] == (96, 192)
    assert windows["decoder2.level3.0.attention"] == (96, 96)
    assert windows["orsnet.orbs.2.blocks.0.attention"] == (384, 384)


def test_tlc_changes_the_output_only_above_the_training_size(model: MPRNet) -> None:
    local = with_tlc(model, 32)
    with torch.inference_mode():
        at, above = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 96)
        for expected, found in zip(model(at), local(at), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert (model(above)[-1] - local(above)[-1]).abs().max() > 2e-5
    assert not any("Local" in type(m).__name__ for m in model.modules())
    assert all(a is b for a, b in zip(model.parameters(), local.parameters(), strict=True))


def test_window_mean_of_float16_does_not_overflow() -> None:
    """Cumulative sums in float16 would overflow at 65504."""
    x = (torch.rand(1, 1, 600, 500) + 50).half()
    found = window_mean(x, 64, 48)
    expected = uniform_filter1d(uniform_filter1d(x[0, 0].double(), 64, 0), 48, 1)
    expected = torch.from_numpy(expected)[32 : 32 + 537, 24 : 24 + 453]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0, 0].double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_is_close_to_float32(model: MPRNet, dtype: Any) -> None:
    local = with_tlc(model, 32)
    x = torch.rand(1, 3, 64, 80)
    with torch.inference_mode():
        expected = local(x)[-1]
        with torch.autocast("cpu", dtype):
            found = local(x)[-1].float()
    assert (found - expected).abs().mean() < 0.01


def test_crop_not_a_multiple_of_8_raises(model: MPRNet) -> None:
    with pytest.raises(ValueError, match="crop=100 must be a positive multiple of 8"):
        with_tlc(model, 100)
