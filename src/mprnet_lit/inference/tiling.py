"""Running a network on an image tile by tile, so that memory does not grow with the image.

Neighbouring tiles overlap. Of the overlap, the outer quarter on each side is thrown away, as the
tile's border disturbs it, and in the middle half one tile fades into the other. A network that
sees no further than a quarter of the overlap therefore gives just what it gives on the whole image.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from mprnet_lit.models import SIZE_MULTIPLE

Network = Callable[[Tensor], Sequence[Tensor]]
Progress = Callable[[int, int], None]
"""Told how many tiles are done, of how many."""


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin that cover ``length`` evenly, overlapping by ``overlap`` or more.

    All are multiples of 8, as ``length`` and ``tile`` must be.
    """
    if tile >= length:
        return [0]
    unit = SIZE_MULTIPLE
    last = (length - tile) // unit
    steps = -(-last // (tile // unit - -(-overlap // unit)))
    return [k * last // steps * unit for k in range(steps + 1)]


def blending(length: int, tile: int, overlap: int) -> list[Tensor]:
    """Return each tile's weights in one direction, (tile,); where tiles meet they sum to 1."""
    begins, tile = starts(length, tile, overlap), min(tile, length)
    rising = torch.ones(tile)
    if overlap:
        distance = torch.arange(tile) + 0.5 - overlap / 4
        rising = (distance / (overlap / 2)).clamp(0, 1).mul(torch.pi / 2).sin().square()
    weights, total = [], torch.zeros(length)
    for begin in begins:
        weight = torch.ones(tile)
        if begin > 0:
            weight = weight * rising
        if begin + tile < length:
            weight = weight * rising.flip(0)
        total[begin : begin + tile] += weight
        weights.append(weight)
    return [w / total[b : b + tile] for w, b in zip(weights, begins, strict=True)]


def run_tiled(
    network: Network,
    image: Tensor,
    tile: int,
    overlap: int,
    batch_size: int = 1,
    progress: Progress | None = None,
) -> tuple[Tensor, ...]:
    """Run a network over the tiles of (B, C, H, W) and blend each of its outputs.

    Args:
        network: takes (N, C, h, w) and returns tensors of that height and width.
        image: H and W multiples of 8.
        tile: side of the tiles, a multiple of 8 larger than ``overlap``; where the image is
            smaller, its side.
        overlap: pixels by which neighbours overlap at least.
        batch_size: tiles that the network gets at once.
        progress: told after each batch of tiles.
    """
    height, width = image.shape[-2:]
    tall, wide = min(tile, height), min(tile, width)
    places = list(
        product(
            zip(starts(height, tile, overlap), blending(height, tile, overlap), strict=True),
            zip(starts(width, tile, overlap), blending(width, tile, overlap), strict=True),
        )
    )
    blended: list[Tensor] = []
    for first in range(0, len(places), batch_size):
        batch = places[first : first + batch_size]
        tiles = [image[..., y : y + tall, x : x + wide] for (y, _), (x, _) in batch]
        outputs = network(torch.cat(tiles))
        for k, output in enumerate(outputs):
            if len(blended) == k:
                blended.append(output.new_zeros((len(image), output.shape[1], height, width)))
            for part, ((y, rows), (x, columns)) in zip(
                torch.split(output, len(image)), batch, strict=True
            ):
                weight = (rows[:, None] * columns).to(part)
                blended[k][..., y : y + tall, x : x + wide] += part * weight
        if progress is not None:
            progress(first + len(batch), len(places))
    return tuple(blended)
