"""Tiled inference: the memory of a forward pass does not depend on the image size.

Adjacent tiles overlap. The outer quarter of the overlap on each side is discarded because of
border effects, and the tiles are blended in the middle half. The result equals the result for the
whole image if the radius of the receptive field is at most a quarter of the overlap.

Tiles are processed from top to bottom. The rows that no later tile touches are finished, and only
the rows of the current tiles are in memory as floating point.

The sides of tiles are multiples of 8 pixels. A tile is larger than the overlap.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge
from itertools import groupby, islice

import torch
from torch import Tensor

from mprnet_lit.inference.ensemble import UPRIGHT, Orientation
from mprnet_lit.models import SIZE_MULTIPLE
from mprnet_lit.models.padding import reflection

Network = Callable[[Tensor], Sequence[Tensor]]
Load = Callable[[slice, slice], Tensor]
"""Function that returns the given rows and columns of a batch, (B, C, h, w) floating point."""
Band = tuple[int, list[Tensor]]
"""First row, and the next rows (B, C, h, W) of every output of a network."""
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


@dataclass(frozen=True)
class Tiling:
    """Options of tiled inference.

    Attributes:
        tile: side of the tiles in pixels, a multiple of 8 larger than ``overlap``; limited to the
            padded size of the image.
        overlap: minimum overlap of adjacent tiles in pixels.
        batch_size: maximum number of tiles per forward pass; each has all images of the batch.
        orientations: orientations of the image, over whose results the mean is taken.
    """

    tile: int
    overlap: int
    batch_size: int = 1
    orientations: Sequence[Orientation] = (UPRIGHT,)


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
        image: batch (B, C, H, W) of any size.
        tile: side of the tiles; see :class:`Tiling`.
        overlap: minimum overlap of adjacent tiles; see :class:`Tiling`.
        batch_size: number of tiles per forward pass; see :class:`Tiling`.
        progress: callback that is called after each forward pass.

    Returns:
        Blended outputs of the network, (B, C', H, W) each, on the device of its outputs.
    """

    def load(rows: slice, columns: slice) -> Tensor:
        return image[..., rows, columns].clone()

    height, width = image.shape[-2:]
    tiling = Tiling(tile, overlap, batch_size)
    bands = run_in_bands(network, load, (height, width), tiling, image.device, progress)
    return join(bands, height)


def join(bands: Iterable[Band], height: int) -> tuple[Tensor, ...]:
    """Return the whole outputs, (B, C, height, W) each, of :func:`run_in_bands`."""
    whole: tuple[Tensor, ...] = ()
    for top, outputs in bands:
        shapes = ((*output.shape[:2], height, output.shape[-1]) for output in outputs)
        whole = whole or tuple(map(outputs[0].new_empty, shapes))
        for image, output in zip(whole, outputs, strict=True):
            image[..., top : top + output.shape[-2], :] = output
    return whole


def run_in_bands(
    network: Network,
    load: Load,
    size: tuple[int, int],
    tiling: Tiling,
    device: torch.device,
    progress: Progress | None = None,
) -> Iterator[Band]:
    """Apply a network to the tiles of a batch, and yield its blended outputs from top to bottom.

    Args:
        network: function that maps (N, C, h, w) to tensors of the same height and width.
        load: function that returns a copy of a part of the batch.
        size: height H and width W of the batch, of any size. The batch is padded by reflection.
        tiling: options.
        device: device of the tiles before and after the network.
        progress: callback that is called after each forward pass.

    Yields:
        First row, and the next rows of every output. The caller may modify these rows, which are
        valid until the next step.
    """
    height, width = size
    grids = [_grid(length, tiling, device) for length in size]
    total = len(tiling.orientations) * len(grids[0][False]) * len(grids[1][False])
    done, top, sums = 0, 0, list[Tensor]()
    for batch in _batches(_from_top(grids, tiling.orientations), tiling.batch_size):
        inputs = [tile.read(load) for tile in batch]
        outputs = network(torch.cat(inputs) if len(inputs) > 1 else inputs[0])
        done += len(batch)
        if progress is not None:
            progress(done, total)
        for tile, *parts in zip(batch, *(o.split(len(inputs[0])) for o in outputs), strict=True):
            if total == 1:
                yield 0, [tile.upright(part) for part in parts]
                return
            if not sums:
                rows = min(tiling.tile, height)
                shapes = ((len(part), rows, width, part.shape[1]) for part in parts)
                sums = [parts[0].new_zeros(shape) for shape in shapes]  # channels last
            if (finished := tile.rows.target.start - top) > 0:
                yield top, [part_sum[:, :finished].movedim(-1, 1) for part_sum in sums]
                top += finished
                for part_sum in sums:
                    _scroll(part_sum, finished)
            for part_sum, part in zip(sums, parts, strict=True):
                weighted = tile.weighted(part)
                covered = part_sum[:, : weighted.shape[1], tile.columns.target]
                covered.add_(weighted, alpha=1 / len(tiling.orientations))
    yield top, [part_sum[:, : height - top].movedim(-1, 1) for part_sum in sums]


@dataclass(frozen=True)
class _Span:
    """Rows (or columns) of an image that a tile reads and writes.

    Attributes:
        source: contiguous rows of the image that contain all rows of the tile.
        index: rows of the tile within ``source``, flipped and padded by reflection; ``None`` for
            all rows of ``source`` in order.
        length: number of rows of the tile.
        target: rows of the image that the tile writes.
        weight: blending weights of these rows; ``None`` if they are all 1.
        flipped: whether the tile is flipped.
    """

    source: slice
    index: Tensor | None
    length: int
    target: slice
    weight: Tensor | None
    flipped: bool


@lru_cache(maxsize=8)
def _grid(length: int, tiling: Tiling, device: torch.device) -> dict[bool, list[_Span]]:
    """Return the spans of all tiles in one direction from the top, without and with a flip.

    They are cached, because computing them takes as long as a pass over a small video frame.
    """
    padded = reflection(length)
    begins = starts(len(padded), tiling.tile, tiling.overlap)
    weights = blending(len(padded), tiling.tile, tiling.overlap)
    grid: dict[bool, list[_Span]] = {False: [], True: []}
    for begin, blend in zip(begins, weights, strict=True):
        end = min(begin + len(blend), length)
        for flipped, target in (
            (False, slice(begin, end)),
            (True, slice(length - end, length - begin)),
        ):
            rows = padded[begin : begin + len(blend)]
            rows = length - 1 - rows if flipped else rows
            source = slice(int(rows.min()), int(rows.max()) + 1)
            in_order = not flipped and end - begin == len(blend)
            index = None if in_order else (rows - source.start).to(device)
            weight = None if len(begins) == 1 else blend[: end - begin].to(device)
            weight = weight.flip(0) if weight is not None and flipped else weight
            span = _Span(source, index, len(blend), target, weight, flipped)
            grid[flipped].append(span)
    grid[True].reverse()
    return grid


@dataclass(frozen=True)
class _Tile:
    """Tile of an image in an orientation."""

    rows: _Span
    columns: _Span
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input of the network."""
        height, width = self.rows.length, self.columns.length
        return (width, height) if self.transposed else (height, width)

    def read(self, load: Load) -> Tensor:
        """Return the input of the network."""
        tile = load(self.rows.source, self.columns.source)
        for dim, span in (-2, self.rows), (-1, self.columns):
            if span.index is not None:
                tile = tile.index_select(dim, span.index)
        return tile.mT if self.transposed else tile

    def upright(self, output: Tensor) -> Tensor:
        """Return an output of the network in the orientation of the image, without padding."""
        output = output.mT if self.transposed else output
        for dim, span in (-2, self.rows), (-1, self.columns):
            output = output.narrow(dim, 0, span.target.stop - span.target.start)
            output = output.flip(dim) if span.flipped else output
        return output

    def weighted(self, output: Tensor) -> Tensor:
        """Return an upright output, (B, h, w, C), times its blending weights.

        The weights are applied to rows of w * C values: torch is slow if the innermost loop of a
        product has only the C channels of a pixel.
        """
        upright = self.upright(output).movedim(1, -1)
        rows = upright.flatten(-2)
        if self.columns.weight is not None:
            rows = rows * self.columns.weight.repeat_interleave(upright.shape[-1])
        if self.rows.weight is not None:
            rows = rows * self.rows.weight[:, None]
        return rows.view(upright.shape)


def _from_top(
    grids: Sequence[dict[bool, list[_Span]]], orientations: Sequence[Orientation]
) -> Iterator[_Tile]:
    """Return the tiles of all orientations, sorted by their first row in the image."""
    rows, columns = grids

    def tiles(orientation: Orientation) -> Iterator[_Tile]:
        for row in rows[orientation.flip_rows]:
            for column in columns[orientation.flip_columns]:
                yield _Tile(row, column, orientation.transposed)

    return merge(*map(tiles, orientations), key=lambda tile: tile.rows.target.start)


def _batches(tiles: Iterable[_Tile], size: int) -> Iterator[list[_Tile]]:
    """Yield lists of at most ``size`` consecutive tiles of equal shape."""
    for _, group in groupby(tiles, key=lambda tile: tile.shape):
        while batch := list(islice(group, size)):
            yield batch


def _scroll(rows: Tensor, count: int) -> None:
    """Move rows (B, h, W, C) up by ``count`` in place, and fill the last rows with zeros."""
    height = rows.shape[1]
    for top in range(0, height - count, count):  # steps without overlap
        end = min(top + count, height - count)
        rows[:, top:end] = rows[:, top + count : end + count]
    rows[:, max(height - count, 0) :] = 0
