"""Validation panels of the best runs as embedded images of limited size."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mprnet_lit.images.reading import open_image
from mprnet_lit.reports.page import embed
from mprnet_lit.reports.trials import Trial
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.untrusted import NotReadableError, open_inside

BEST = 3
"""Number of runs whose panels are shown."""
_EPOCHS = 40
_BYTES = 9_000_000
"""Largest total size of the panels of a page in bytes."""
_WIDEST = 1600
_MOST_FILES = 100_000
_MOST_BYTES, _MOST_PIXELS = 2**26, 2**26
"""Limits of a panel; three rows of five 256x256 images are 1.1 megapixels."""


def embed_panels(trials: Sequence[Trial], best: int = BEST) -> list[dict[str, Any]]:
    """Return the panels of the best runs, with as many epochs as the size limit allows.

    Unreadable panels are skipped and reported in ``notes`` of their run.
    """
    found = [(trial, _epochs(trial.folder)) for trial in trials if trial.folder is not None]
    found = [(trial, paths) for trial, paths in found if paths]
    found.sort(key=lambda item: -(item[0].psnr if item[0].psnr is not None else float("-inf")))
    found = found[:best]
    shown = []
    for trial, paths in found:
        chosen = _spread(sorted(paths), _EPOCHS, int(trial.best.get("epoch", 0)))
        pictures = {}
        for epoch in chosen:
            name = f"panels/{paths[epoch].name}"
            assert trial.folder is not None
            picture, damage = _read(trial.folder, name)
            trial.note(name, damage)
            if picture:
                pictures[epoch] = picture
        room = _BYTES // len(found)
        while len(pictures) > 1 and sum(map(len, pictures.values())) > room:
            kept = _spread(list(pictures), max(len(pictures) * 3 // 4, 1), 0)
            pictures = {epoch: pictures[epoch] for epoch in kept}
        if pictures:
            listed = [[epoch, picture] for epoch, picture in pictures.items()]
            shown.append({"trial": trial.name, "panels": listed, "of": len(paths)})
    return shown


def _epochs(folder: Path) -> dict[int, Path]:
    found = islice(folder.glob("panels/epoch_*.png"), _MOST_FILES)
    numbered = {path: path.stem.removeprefix("epoch_") for path in found}
    return {int(number): path for path, number in numbered.items() if number.isdecimal()}


def _spread(epochs: list[int], most: int, wanted: int) -> list[int]:
    """Return at most ``most`` epochs: the last, the wanted one, and evenly spaced others."""
    if len(epochs) <= most:
        return epochs
    if most == 1:
        return epochs[-1:]
    kept = {epochs[k * (len(epochs) - 1) // (most - 1)] for k in range(most)}
    if wanted in epochs and wanted not in kept:
        near = min(kept - {epochs[-1]}, key=lambda epoch: abs(epoch - wanted))
        kept = kept - {near} | {wanted}
    return sorted(kept)


def _read(folder: Path, name: str) -> tuple[str, str]:
    """Return the data URL and the error message of a panel; one of them is empty."""
    try:
        os.close(open_inside(folder, name, _MOST_BYTES))
        with open_image(folder / name) as (image, _):
            width, height = image.size
            if width * height > _MOST_PIXELS:
                return "", "has too many pixels and is not shown"
            picture = image.convert("RGB")
    except NotReadableError as error:
        return "", str(error)
    except UserError:
        return "", "is damaged"
    picture.thumbnail((_WIDEST, 4 * _WIDEST))
    return embed(picture, quality=82, method=3), ""
