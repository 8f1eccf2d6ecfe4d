"""The report page: one HTML file with everything in it, to look at results before and after."""

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
from mprnet_lit.utils.atomic import write_whole

_LARGEST = 2048
"""Longest side in pixels of an embedded picture; of larger ones the centre is shown."""
_THUMBNAIL = 128


@dataclass(frozen=True)
class Entry:
    """An image of the page; without pictures, a row of its table alone.

    Attributes:
        name: of the image.
        degraded, restored, target: (H, W, 3) RGB.
        stages: the network's stages, each (H, W, 3) RGB.
        scores: what was measured, such as ``{"PSNR": 31.2}``; a column each.
        size: (height, width) of the whole image, where the pictures are its centre alone.
    """

    name: str
    degraded: NDArray[np.uint8] | None = None
    restored: NDArray[np.uint8] | None = None
    target: NDArray[np.uint8] | None = None
    stages: tuple[NDArray[np.uint8], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] | None = None


def centre(pixels: Pixels, largest: int = _LARGEST) -> NDArray[np.uint8]:
    """Return the centre of (H, W, 3), at most ``largest`` pixels a side, in 8 bits."""
    top, left = (max(side - largest, 0) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + largest, left : left + largest]
    return to_uint8(to_float(part))


def write_report(
    path: Path,
    title: str,
    settings: Mapping[str, str],
    summary: Sequence[Sequence[str]],
    entries: Sequence[Entry],
    omitted: int = 0,
) -> None:
    """Write the page, whole or not at all; it needs no network and no other file.

    Args:
        path: the HTML file.
        title: the page's heading.
        settings: what was in force, in words.
        summary: rows of a small table, the first of them its header.
        entries: the images, in the order in which they are first shown.
        omitted: number of images of which no picture is embedded.

    Raises:
        UserError: it can't be written.
    """
    data = {
        "settings": dict(settings),
        "summary": [list(row) for row in summary],
        "omitted": omitted,
        "entries": [_describe(entry) for entry in entries],
    }
    write_whole(path, fill("report.html", title, data))


def _describe(entry: Entry) -> dict[str, Any]:
    pictures = {"degraded": entry.degraded}
    pictures |= {f"stage {k}": stage for k, stage in enumerate(entry.stages, start=1)}
    pictures |= {"restored": entry.restored, "target": entry.target}
    shown = {name: centre(pixels) for name, pixels in pictures.items() if pixels is not None}
    first = next((p.shape[:2] for p in pictures.values() if p is not None), None)
    whole = entry.size or first
    height, width = next((p.shape[:2] for p in shown.values()), (0, 0))
    face = shown.get("restored", next(iter(shown.values()), None))
    return {
        "name": entry.name,
        "scores": {k: float(v) if math.isfinite(v) else None for k, v in entry.scores.items()},
        "thumbnail": None if face is None else _thumbnail(face),
        # Without loss, so that zooming in shows true pixels.
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
