"""Geometric self-ensemble: mean over the eight flips and 90-degree rotations of an image.

Timofte et al., "Seven ways to improve example-based single image super resolution" (CVPR 2016).
"""

from collections.abc import Callable

import torch
from torch import Tensor

Restore = Callable[[Tensor], tuple[Tensor, ...]]


def self_ensemble(restore: Restore, image: Tensor) -> tuple[Tensor, ...]:
    """Return the mean of each output of ``restore``, (B, C, H, W), over eight orientations."""
    total: tuple[Tensor, ...] = ()
    for flip in (False, True):
        for turns in range(4):
            rotated = torch.rot90(image.flip(-1) if flip else image, turns, (-2, -1))
            outputs = [torch.rot90(o, -turns, (-2, -1)) for o in restore(rotated)]
            outputs = [o.flip(-1) if flip else o for o in outputs]
            if total:
                for mean, output in zip(total, outputs, strict=True):
                    mean += output / 8
            else:
                total = tuple(output / 8 for output in outputs)
    return total
