"""Detection of collapsed stages in the metrics of a validation."""

import math
from collections.abc import Mapping

PSNR_DROP = 6.0
"""Difference in dB to the degraded input, below which a stage counts as collapsed."""

HIGHEST_PSNR = 25.0
"""PSNR in dB from which no stage counts as collapsed.

A young network can be far below an input that is nearly clean: 31.7 dB after 150 steps, where the
input has 38.0 dB.
"""

FIRST_STEP = 100
"""Step of the first check: a network that is trained from scratch starts far below the input."""

SATURATION = 0.25
"""Share of saturated values above which a stage counts as collapsed."""


def first_check(decay: float | None = None) -> float:
    """Return the step of the first check.

    Args:
        decay: decay of averaged weights, 0 to 1; ``None`` without an average. The check waits until
            the untrained weights are about exp(-3) = 5 % of the average.
    """
    if decay is None:
        return FIRST_STEP
    return max(FIRST_STEP, 3 / (1 - decay) if decay < 1 else math.inf)


def find_collapse(metrics: Mapping[str, float]) -> str | None:
    """Return a clause that names the first collapsed stage; ``None`` if no stage has collapsed.

    Args:
        metrics: metrics of a validation without the prefix ``val/``: ``psnr_*`` in dB and
            ``saturated_*`` in [0, 1]. Missing metrics are not checked.
    """
    for k in (1, 2, 3):
        psnr = metrics.get(f"psnr_stage{k}")
        saturated = metrics.get(f"saturated_stage{k}", 0.0)
        drop = 0.0 if psnr is None else metrics.get("psnr_degraded", psnr) - psnr
        facts = []
        if psnr is not None and psnr < HIGHEST_PSNR and drop > PSNR_DROP:
            facts.append(f"has {psnr:.1f} dB, {drop:.1f} dB less than the degraded input")
        if saturated > SATURATION:
            facts.append(f"has {saturated:.0%} of its values wrongly outside [0, 1]")
        if facts:
            return f"stage {k} {' and '.join(facts)}"
    return None
