"""Validation panels of the best runs as embedded images of limited size."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mprnet_lit.images.reading import open_image
from mprnet_lit.reports.page import embed
from mprnet_lit.reports.trials import MAX_CURVES, Trial, ranked
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.untrusted import NotReadableError, open_inside

_RUNS = 3
"""Number of runs whose panels are shown."""
_MAX_EPOCHS = 40
_MAX_TOTAL, _MAX_BESIDE_MANY = 9_000_000, 1_500_000
"""Maximum total size of the panels of a page in bytes, and the maximum beside over 100 runs."""
_MAX_WIDTH = 1600
_MAX_FILES = 100_000
_MAX_BYTES, _MAX_PIXELS = 2**26, 2**26
"""Limits of a panel; three rows of five 256x256 images are 1.1 megapixels."""


def embed_panels(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the panels of the best runs, with as many epochs as the size limit allows.

    Unreadable panels are skipped and reported in ``notes`` of their run.
    """
    with_panels = ((trial, _epochs(trial.folder)) for trial in ranked(trials))
    found = list(islice(((trial, paths) for trial, paths in with_panels if paths), _RUNS))
    shown = []
    for trial, paths in found:
        pictures = {}
        for epoch in _spread(sorted(paths), _MAX_EPOCHS, int(trial.best.get("epoch", 0))):
            picture, damage = _read(paths[epoch])
            trial.note(f"panels/{paths[epoch].name}", damage)
            if picture:
                pictures[epoch] = picture
        total = _MAX_TOTAL if len(trials) <= MAX_CURVES else _MAX_BESIDE_MANY
        room = total // len(found)
        while len(pictures) > 1 and sum(map(len, pictures.values())) > room:
            kept = _spread(list(pictures), max(len(pictures) * 3 // 4, 1), 0)
            pictures = {epoch: pictures[epoch] for epoch in kept}
        if pictures:
            listed = [[epoch, picture] for epoch, picture in pictures.items()]
            shown.append({"trial": trial.name, "panels": listed, "of": len(paths)})
    return shown


def _epochs(folder: Path | None) -> dict[int, Path]:
    """Return the panels of a run by epoch."""
    found = () if folder is None else islice(folder.glob("panels/epoch_*.png"), _MAX_FILES)
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


def _read(path: Path) -> tuple[str, str]:
    """Return the data URL and the error message of a panel; one of them is empty."""
    try:
        os.close(open_inside(path.parents[1], f"panels/{path.name}", _MAX_BYTES))
        with open_image(path) as (image, _):
            if image.width * image.height > _MAX_PIXELS:
                return "", "has too many pixels and is not shown"
            picture = image.convert("RGB")
    except NotReadableError as error:
        return "", str(error)
    except UserError:
        return "", "is damaged"
    picture.thumbnail((_MAX_WIDTH, 4 * _MAX_WIDTH))
    return embed(picture, quality=82, method=3), ""
