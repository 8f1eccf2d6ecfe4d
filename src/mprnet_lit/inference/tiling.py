"""Tiled inference: the memory of a forward pass does not depend on the image size.

Adjacent tiles overlap. The outer quarter of the overlap on each side is discarded because of
border effects, and the tiles are blended in the middle half. The result equals the result for the
whole image if the radius of the receptive field is at most a quarter of the overlap.

The sides of images and tiles are multiples of 8 pixels. A tile is larger than the overlap.
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from mprnet_lit.models import SIZE_MULTIPLE

Network = Callable[[Tensor], Sequence[Tensor]]
Progress = Callable[[int, int], None]
"""Callback with the number of finished tiles and the total number."""


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the start positions, multiples of 8, of evenly spaced tiles in one direction."""
    if tile >= length:
        return [0]
    unit = SIZE_MULTIPLE
    last = (length - tile) // unit
    steps = -(-last // (tile // unit - -(-overlap // unit)))
    return [k * last // steps * unit for k in range(steps + 1)]


def blending(length: int, tile: int, overlap: int) -> list[Tensor]:
    """Return the blending weights of each tile in one direction, each (min(tile, length),).

    The weights are in [0, 1] and sum to 1 at every pixel.
    """
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
    """Apply a network to the tiles of a batch and blend its outputs.

    Args:
        network: function that maps (N, C, h, w) to tensors of the same height and width.
        image: batch (B, C, H, W); H and W are multiples of 8.
        tile: side of the tiles in pixels, a multiple of 8 larger than ``overlap``; limited to the
            size of the image.
        overlap: minimum overlap of adjacent tiles in pixels.
        batch_size: number of tiles per forward pass; each has B images.
        progress: callback that is called after each forward pass.

    Returns:
        Blended outputs of the network, (B, C', H, W) each, on the device of its outputs.
    """
    height, width = image.shape[-2:]
    if tile >= max(height, width):
        outputs = network(image)
        if progress is not None:
            progress(1, 1)
        return tuple(outputs)
    tile_height, tile_width = min(tile, height), min(tile, width)

    def along(side: int) -> list[tuple[int, Tensor]]:
        weights = (weight.to(image.device) for weight in blending(side, tile, overlap))
        return list(zip(starts(side, tile, overlap), weights, strict=True))

    places = list(product(along(height), along(width)))
    blended: list[Tensor] = []
    for first in range(0, len(places), batch_size):
        batch = places[first : first + batch_size]
        tiles = [image[..., y : y + tile_height, x : x + tile_width] for (y, _), (x, _) in batch]
        outputs = network(torch.cat(tiles))
        for k, output in enumerate(outputs):
            if len(blended) == k:
                blended.append(output.new_zeros((len(image), output.shape[1], height, width)))
            for part, ((y, rows), (x, columns)) in zip(
                torch.split(output, len(image)), batch, strict=True
            ):
                weight = (rows[:, None] * columns).to(part)
                blended[k][..., y : y + tile_height, x : x + tile_width] += part * weight
        if progress is not None:
            progress(first + len(batch), len(places))
    return tuple(blended)
