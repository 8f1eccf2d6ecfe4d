"""Tiling: any image size, and exact results for a small receptive field."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mprnet_lit.inference.tiling import blending, run_tiled, starts
from mprnet_lit.inference.tlc import LocalChannelAttention
from mprnet_lit.models.blocks import CAB, ChannelAttention, Down, Up

multiples_of_8 = st.integers(1, 40).map(lambda n: 8 * n)


@settings(deadline=None)
@given(length=multiples_of_8, tile=multiples_of_8, overlap=st.integers(0, 64))
def test_tiles_cover_the_image_and_weights_sum_to_one(length: int, tile: Any, overlap: Any) -> None:
    if tile < -(-overlap // 8) * 8 + 8:
        return
    begins = starts(length, tile, overlap)
    tile = min(tile, length)
    assert begins[0] == 0 and begins[-1] + tile == length
    assert all(begin % 8 == 0 for begin in begins)
    for one, two in pairwise(begins):
        assert one < two <= one + tile - overlap
    total = torch.zeros(length)
    for begin, weight in zip(begins, blending(length, tile, overlap), strict=True):
        total[begin : begin + tile] += weight
        margin = overlap // 4
        if begin > 0:
            assert not weight[:margin].any()
        if begin + tile < length:
            assert not weight[tile - margin :].any()
    torch.testing.assert_close(total, torch.ones(length))


class ConvNet(nn.Module):
    """Two outputs from convolutions at two scales, without channel attention.

    The radius of its receptive field is below 12 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.down, self.inner, self.up = Down(3, 6), nn.Conv2d(6, 6, 3, padding=1), Up(6, 3)

    def forward(self, x: Any) -> tuple[Any, Any]:
        features = self.first(x).relu()
        deep = self.up(self.inner(self.down(features)).relu())
        return features, self.last(features + deep) + x


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    tile=st.sampled_from([56, 64, 96]),
    batch_size=st.integers(1, 4),
    images=st.integers(1, 2),
)
def test_tiles_equal_the_whole_image_without_channel_attention(
    height: Any, width: Any, tile: Any, batch_size: Any, images: Any
) -> None:
    torch.manual_seed(0)
    network = ConvNet()
    image = torch.rand(images, 3, 8 * height, 8 * width)
    with torch.inference_mode():
        for expected, found in zip(
            network(image), run_tiled(network, image, tile, 48, batch_size), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_tiles_differ_from_the_whole_image_without_overlap() -> None:
    """Verify that the previous test can fail."""
    torch.manual_seed(0)
    network, image = ConvNet(), torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        difference = network(image)[-1] - run_tiled(network, image, 64, 0)[-1]
    assert difference.abs().max() > 1e-3


def test_progress_counts_tiles() -> None:
    calls = []
    run_tiled(lambda x: [x], torch.rand(1, 3, 64, 128), 64, 16, 2, lambda *p: calls.append(p))
    assert calls == [(2, 3), (3, 3)]


@pytest.mark.parametrize("overlap", [0, 16])
def test_image_within_one_tile_is_not_blended(overlap: int) -> None:
    image = torch.rand(2, 3, 40, 24)
    (found,) = run_tiled(lambda x: [x], image, 64, overlap)
    assert torch.equal(found, image)


def test_tlc_removes_the_seams_of_global_averages() -> None:
    """Tiles equal the whole image if the windows are within a quarter of the overlap."""
    torch.manual_seed(0)
    activation = nn.PReLU()
    blocks = nn.Sequential(*(CAB(8, 4, activation) for _ in range(2)))
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), blocks, nn.Conv2d(8, 3, 3, padding=1))
    for block in blocks:
        assert isinstance(block.attention, ChannelAttention)
        block.attention.expand.weight.data *= 20  # as sensitive as trained attention
    image = torch.rand(1, 3, 96, 256) * torch.linspace(0, 1, 256)  # brighter to the right

    def seams() -> Any:
        with torch.inference_mode():
            (tiled,) = run_tiled(lambda x: [network(x)], image, 128, 96)
            return (tiled - network(image)).abs().max().item()

    global_seams = seams()
    for block in blocks:
        assert isinstance(block.attention, ChannelAttention)
        block.attention = LocalChannelAttention(block.attention, (16, 16))
    assert seams() < 1e-6 < 1e-3 < global_seams
