"""Difference between the inputs and the targets of a training."""

from typing import Any

import torch
from torch import Tensor

_PER_LEVEL = 4
"""Number of bins per 8-bit level."""
_BINS = 256 * _PER_LEVEL
_QUANTILE = 0.99
_MAX_COUNT = 2**53


class ChangeHistogram:
    """Histogram of the mean absolute differences between degraded patches and their targets.

    The patches are counted on their device, without a synchronization.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(_BINS, dtype=torch.int64)

    @torch.no_grad()
    def add(self, degraded: Tensor, target: Tensor) -> None:
        """Count a batch of patches, (B, 3, H, W) in [0, 1] each."""
        levels = (degraded - target).abs().flatten(1).mean(1, dtype=torch.float32) * 255
        bins = (levels * _PER_LEVEL).long().clamp_(0, _BINS - 1)
        self._counts = self._counts.to(bins.device)
        self._counts.index_add_(0, bins, torch.ones_like(bins))

    def high(self) -> float | None:
        """Return the 99th percentile in 8-bit levels, to 0.25; ``None`` without any patch."""
        cumulated = self._counts.cumsum(0)
        if not cumulated[-1]:
            return None
        first = int((cumulated >= _QUANTILE * cumulated[-1]).int().argmax())
        return min((first + 1) / _PER_LEVEL, 255.0)

    def state(self) -> list[int]:
        """Return the counts, for a checkpoint."""
        return list(map(int, self._counts.tolist()))

    def load(self, counts: Any) -> None:
        """Continue with the counts of a checkpoint. Values that are not counts are ignored."""
        if (
            isinstance(counts, list)
            and len(counts) == _BINS
            and all(type(count) is int and 0 <= count <= _MAX_COUNT for count in counts)
        ):
            self._counts = torch.tensor(counts, dtype=torch.int64)
