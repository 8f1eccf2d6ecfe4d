"""Self-contained HTML report of restored images with a before/after slider."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mprnet_lit.images.reading import Pixels, to_float, to_uint8
from mprnet_lit.reports.page import embed, fill
from mprnet_lit.utils.atomic import write_atomic

_MAX_SIDE = 2048
"""Maximum side of an embedded image in pixels; larger images are cropped to the center."""
_THUMBNAIL = 128


@dataclass(frozen=True)
class Entry:
    """Image of the report. Without pixels, the image is only a row of the table.

    Attributes:
        name: name of the image.
        degraded: input, (H, W, 3) RGB.
        restored: output, (H, W, 3) RGB.
        target: ground truth, (H, W, 3) RGB.
        stages: outputs of the stages of the network, each (H, W, 3) RGB.
        scores: columns of the table, such as ``{"PSNR": 31.2}``.
        size: (height, width) of the full image, if the arrays are center crops.
    """

    name: str
    degraded: NDArray[np.uint8] | None = None
    restored: NDArray[np.uint8] | None = None
    target: NDArray[np.uint8] | None = None
    stages: tuple[NDArray[np.uint8], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None


def center(pixels: Pixels, max_side: int = _MAX_SIDE) -> NDArray[np.uint8]:
    """Return the 8-bit center crop of an (H, W, 3) image, at most ``max_side`` pixels per side."""
    top, left = (max(side - max_side, 0) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + max_side, left : left + max_side]
    return to_uint8(to_float(part))


def write_report(
    path: Path,
    title: str,
    settings: Mapping[str, str],
    summary: Sequence[Sequence[str]],
    entries: Sequence[Entry],
    omitted: int = 0,
) -> None:
    """Write the report atomically, as one file without network access.

    Args:
        path: HTML file to write or replace.
        title: title of the page.
        settings: active options by name, as text.
        summary: rows of a small table, the header first.
        entries: images in their initial order.
        omitted: number of images that the page does not show.

    Raises:
        UserError: ``path`` can't be written.
    """
    data = {
        "settings": dict(settings),
        "summary": [list(row) for row in summary],
        "omitted": omitted,
        "entries": [_describe(entry) for entry in entries],
    }
    write_atomic(path, fill("image_report", title, data))


def _describe(entry: Entry) -> dict[str, Any]:
    pictures = {"degraded": entry.degraded}
    pictures |= {f"stage {k}": stage for k, stage in enumerate(entry.stages, start=1)}
    pictures |= {"restored": entry.restored, "target": entry.target}
    shown = {name: center(pixels) for name, pixels in pictures.items() if pixels is not None}
    first = next((p.shape[:2] for p in pictures.values() if p is not None), None)
    whole = entry.size or first
    height, width = next((p.shape[:2] for p in shown.values()), (0, 0))
    face = shown.get("restored", next(iter(shown.values()), None))
    return {
        "name": entry.name,
        "scores": {k: float(v) if math.isfinite(v) else None for k, v in entry.scores.items()},
        "thumbnail": None if face is None else _thumbnail(face),
        # Lossless, so that zooming in shows exact pixel values.
        "pictures": {
            name: embed(Image.fromarray(pixels), lossless=True, method=2)
            for name, pixels in shown.items()
        },
        "width": width,
        "height": height,
        "cropped": f"{whole[1]} x {whole[0]}" if whole not in (None, (height, width)) else None,
    }


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return embed(image, quality=80)
