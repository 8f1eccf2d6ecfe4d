"""Curves of the scalars in the files of the CSV logger."""

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

from mprnet_lit.runs.files import is_number
from mprnet_lit.utils.untrusted import NotReadableError, open_inside

_LARGEST_LINE = 100_000
_MOST_BYTES = 2**25
"""Largest total size of the files of a run in bytes."""
_MOST_FILES = 1000
_MOST_COLUMNS = 500
_LARGEST_STEP = 2**53


@dataclass
class Curve:
    """Logged scalar of a run; the three lists have the same length.

    Attributes:
        steps: optimizer step of each point, starting at 1.
        epochs: epoch of each point, starting at 1.
        values: logged values, including NaN and infinities.
    """

    steps: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, epoch: int, value: float) -> None:
        """Append a point."""
        self.steps.append(step)
        self.epochs.append(epoch)
        self.values.append(value)

    def before(self, step: int) -> "Curve":
        """Return the points before a step."""
        kept = [k for k, own in enumerate(self.steps) if own < step]
        return self._of(kept)

    def thinned(self, most: int) -> "Curve":
        """Return at most ``most`` points: the extremes of equal intervals and both ends.

        Non-finite points are removed first.
        """
        finite = [k for k, value in enumerate(self.values) if math.isfinite(value)]
        if len(finite) > most:
            intervals = max((most - 2) // 2, 1)
            bounds = [len(finite) * k // intervals for k in range(intervals + 1)]
            kept = {finite[0], finite[-1]}
            for low, high in pairwise(bounds):
                part = finite[low:high]
                kept |= {
                    min(part, key=self.values.__getitem__),
                    max(part, key=self.values.__getitem__),
                }
            finite = sorted(kept)
        return self._of(finite)

    def _of(self, kept: list[int]) -> "Curve":
        return Curve(
            [self.steps[k] for k in kept],
            [self.epochs[k] for k in kept],
            [self.values[k] for k in kept],
        )


def read_curves(folder: Path) -> tuple[dict[str, Curve], list[str]]:
    """Return the curves of a run by name, and notes about damaged files.

    A resumed run has one file per start. Where files overlap, the later file takes precedence.
    """
    curves: dict[str, Curve] = {}
    notes: list[str] = []
    left = _MOST_BYTES
    for name in _files(folder):
        read, damaged, size = _read(folder, name, left)
        left -= size
        if damaged:
            notes.append(f"{name}: {damaged}")
        first = min((curve.steps[0] for curve in read.values()), default=None)
        if first is not None:
            curves = {name: curve.before(first) for name, curve in curves.items()}
        for name, curve in read.items():
            known = curves.setdefault(name, Curve())
            for step, epoch, value in zip(curve.steps, curve.epochs, curve.values, strict=True):
                known.add(step, epoch, value)
    for name, curve in curves.items():
        if bad := sum(not math.isfinite(value) for value in curve.values):
            notes.append(f"{name} is not finite at {bad} of {len(curve.values)} points")
    return {name: curve for name, curve in curves.items() if curve.values}, notes


def has_curves(folder: Path) -> bool:
    """Return whether a folder contains files of the CSV logger."""
    return bool(_files(folder))


def _files(folder: Path) -> list[str]:
    """Return the files of the CSV logger, oldest first."""
    found = islice(folder.glob("csv/version_*/metrics.csv"), _MOST_FILES)
    return [path.relative_to(folder).as_posix() for path in sorted(found, key=_version)]


def _version(path: Path) -> tuple[int, str]:
    number = path.parent.name.removeprefix("version_")
    return (int(number) if number.isdecimal() else -1, number)


def _read(folder: Path, name: str, most: int) -> tuple[dict[str, Curve], str, int]:
    """Read at most ``most`` bytes of a file, and skip damaged lines.

    Returns:
        The curves, a description of any damage, and the number of bytes read.
    """
    curves: dict[str, Curve] = {}
    bad = 0
    try:
        descriptor = open_inside(folder, name)
    except NotReadableError as error:
        return {}, str(error), 0
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(max(most, 0))
        whole = not file.read(1)
    rows = _rows(io.StringIO(content.decode(errors="replace"), newline=""))
    try:
        header = next(rows, [])
        if not {"step", "epoch"} <= set(header):
            return {}, "is empty or was not written by the CSV logger", len(content)
        if len(header) > _MOST_COLUMNS:
            return {}, f"more than {_MOST_COLUMNS} columns", len(content)
        for row in rows:
            try:
                _add(dict(zip(header, row, strict=True)), curves)
            except (ValueError, OverflowError):
                bad += 1
    except csv.Error as error:
        return curves, f"damaged ({error})", len(content)
    lines = "line" if bad == 1 else "lines"
    notes = [f"{bad} damaged {lines} skipped"] if bad else []
    notes += [] if whole else [f"only the first {len(content) / 1e6:.0f} MB were read"]
    return curves, "; ".join(notes), len(content)


def _rows(file: Iterator[str]) -> Iterator[list[str]]:
    """Yield the rows. Lines are parsed separately: an open quote affects only its own line."""
    for line in file:
        if len(line) > _LARGEST_LINE:
            yield []
        else:
            yield from csv.reader([line.replace("\0", "\ufffd")])


def _add(row: dict[str, str], curves: dict[str, Curve]) -> None:
    step, epoch = (int(float(row.pop(name))) + 1 for name in ("step", "epoch"))
    if not (0 < step <= _LARGEST_STEP and 0 < epoch <= _LARGEST_STEP):
        raise ValueError("not a step")
    values = {name: float(text) for name, text in row.items() if text}
    for name, value in values.items():
        if math.isfinite(value) and not is_number(value):
            value = math.copysign(math.inf, value)
        curves.setdefault(name, Curve()).add(step, epoch, value)
