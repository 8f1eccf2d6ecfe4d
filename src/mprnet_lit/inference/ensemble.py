"""Orientations of the geometric self-ensemble: eight flips and 90-degree rotations of an image.

Timofte et al., "Seven ways to improve example-based single image super resolution" (CVPR 2016).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Orientation:
    """Orientation in which the network sees an image: flips, followed by a transposition."""

    flip_rows: bool = False
    flip_columns: bool = False
    transposed: bool = False


UPRIGHT = Orientation()
_ROTATIONS = (
    UPRIGHT,
    Orientation(flip_columns=True, transposed=True),
    Orientation(flip_rows=True, flip_columns=True),
    Orientation(flip_rows=True, transposed=True),
)
SELF_ENSEMBLE = tuple(
    Orientation(turn.flip_rows, turn.flip_columns != mirrored, turn.transposed)
    for mirrored in (False, True)
    for turn in _ROTATIONS
)
"""The four rotations of an image and of its mirror image; the first is upright."""
