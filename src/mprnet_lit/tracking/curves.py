"""Curves of the scalars that a run's CSV logger wrote."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

_LARGEST_FIELD = 100_000


@dataclass
class Curve:
    """One scalar of one run; all three lists are of the same length.

    Attributes:
        steps, epochs: counted from one.
        values: as logged, NaN and infinities too.
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
        """Return the part before a step."""
        kept = [k for k, own in enumerate(self.steps) if own < step]
        return self._of(kept)

    def thinned(self, most: int) -> "Curve":
        """Return at most ``most`` points: the lowest and highest of each stretch, and both ends.

        Points that are not finite are left out first.
        """
        finite = [k for k, value in enumerate(self.values) if math.isfinite(value)]
        if len(finite) > most:
            stretches = max((most - 2) // 2, 1)
            bounds = [len(finite) * k // stretches for k in range(stretches + 1)]
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
    """Return a run's curves by name, and what was wrong with its files.

    A run that was gone on with has a file for each time; where they overlap the later counts.
    """
    curves: dict[str, Curve] = {}
    notes: list[str] = []
    for path in sorted(folder.glob("csv/version_*/metrics.csv"), key=_version):
        read, damaged = _read(path)
        if damaged:
            notes.append(f"{path.relative_to(folder)}: {damaged}")
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


def _version(path: Path) -> tuple[int, str]:
    number = path.parent.name.removeprefix("version_")
    return (int(number) if number.isdecimal() else -1, number)


def _read(path: Path) -> tuple[dict[str, Curve], str]:
    """Read one file as far as it can be read; says in words what can't."""
    curves: dict[str, Curve] = {}
    bad = 0
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = _rows(file)
            header = next(rows, [])
            if not {"step", "epoch"} <= set(header):
                return {}, "empty, or not of the CSV logger"
            for row in rows:
                try:
                    _add(dict(zip(header, row, strict=True)), curves)
                except ValueError:
                    bad += 1
    except OSError as error:
        return {}, f"can't be read ({error.strerror})"
    except csv.Error as error:
        return curves, f"damaged ({error})"
    lines = "line" if bad == 1 else "lines"
    return curves, f"{bad} damaged {lines} left out" if bad else ""


def _rows(file: Iterator[str]) -> Iterator[list[str]]:
    """Read rows; a lost quotation mark can't swallow the rest of a file."""
    for line in file:
        if len(line) > _LARGEST_FIELD:
            yield []
        else:
            yield from csv.reader([line.replace("\0", "\ufffd")])


def _add(row: dict[str, str], curves: dict[str, Curve]) -> None:
    step, epoch = int(float(row.pop("step"))) + 1, int(float(row.pop("epoch"))) + 1
    values = {name: float(text) for name, text in row.items() if text}
    for name, value in values.items():
        curves.setdefault(name, Curve()).add(step, epoch, value)
