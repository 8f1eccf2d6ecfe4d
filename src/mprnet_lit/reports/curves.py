"""Curves of the scalars in the files of the CSV logger."""

import csv
import math
import os
from collections.abc import Sequence
from itertools import compress, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from mprnet_lit.runs.collapse import find_collapse
from mprnet_lit.runs.files import MAX_NUMBER, is_number
from mprnet_lit.utils.untrusted import NotReadableError, open_inside

_MAX_LINE = 100_000
_MAX_BYTES = 2**25
"""Maximum total size of the files of a run in bytes."""
_MAX_FILES = 1000
_MAX_COLUMNS = 500
_MAX_STEP = 2**53


class Curve(NamedTuple):
    """Values of a logged scalar at the steps of a run; the three lists have the same length.

    Attributes:
        steps: optimizer steps, starting at 1.
        epochs: epochs, starting at 1.
        values: logged values, which may be NaN or infinite.
    """

    steps: list[int]
    epochs: list[int]
    values: list[float]

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.steps)

    def at(self, places: Sequence[int]) -> "Curve":
        """Return the points at some places of the lists."""
        steps, epochs, values = self
        return Curve(
            [steps[k] for k in places], [epochs[k] for k in places], [values[k] for k in places]
        )


def thinned(curve: Curve, max_points: int) -> Curve:
    """Return at most ``max_points`` points: the extremes of equal intervals and both ends.

    Non-finite points are removed first.
    """
    finite = [k for k, value in enumerate(curve.values) if math.isfinite(value)]
    if len(finite) <= max_points:
        return curve.at(finite)
    intervals = max((max_points - 2) // 2, 1)
    bounds = [len(finite) * k // intervals for k in range(intervals + 1)]
    kept = {finite[0], finite[-1]}
    for low, high in pairwise(bounds):
        kept.add(min(finite[low:high], key=curve.values.__getitem__))
        kept.add(max(finite[low:high], key=curve.values.__getitem__))
    return curve.at(sorted(kept))


def read_curves(folder: Path) -> tuple[dict[str, Curve], list[str]]:
    """Return the curves of a run by name, and notes about damaged files.

    A resumed run has one file per start. Where files overlap, the later file takes precedence.
    """
    curves: dict[str, Curve] = {}
    notes: list[str] = []
    remaining = _MAX_BYTES
    for file in curve_files(folder):
        read, damage, size = _read(folder, file, remaining)
        remaining -= size
        if damage:
            notes.append(f"{file}: {damage}")
        curves = _continued(curves, read) if curves and read else curves or read
    for name, curve in curves.items():
        if math.isfinite(sum(curve.values)):  # faster than a test of each value
            continue
        if bad := sum(not math.isfinite(value) for value in curve.values):
            notes.append(f"{name} is not finite at {bad} of {curve.size} points")
    return curves, notes


def _continued(curves: dict[str, Curve], read: dict[str, Curve]) -> dict[str, Curve]:
    """Return the curves up to the start of a later file, followed by the curves of that file."""
    start = min(curve.steps[0] for curve in read.values())
    found = {}
    for name in curves | read:
        earlier, later = (of.get(name, Curve([], [], [])) for of in (curves, read))
        earlier = earlier.at([k for k, step in enumerate(earlier.steps) if step < start])
        joined = Curve(
            earlier.steps + later.steps,
            earlier.epochs + later.epochs,
            earlier.values + later.values,
        )
        if joined.size:
            found[name] = joined
    return found


def collapse_notes(curves: dict[str, Curve], first_step: float) -> list[str]:
    """Return a note about the first validation with a collapsed stage from ``first_step`` on."""
    checked = {
        name.removeprefix("val/"): curve
        for name, curve in curves.items()
        if name.startswith(("val/psnr_", "val/saturated_"))
    }
    worst = {
        name: (min if name.startswith("psnr_stage") else max)(curve.values)
        for name, curve in checked.items()
    }
    if all(map(math.isfinite, worst.values())) and not find_collapse(worst):
        return []
    validations: dict[int, dict[str, float]] = {}
    for name, curve in checked.items():
        for step, value in zip(curve.steps, curve.values, strict=True):
            validations.setdefault(step, {})[name] = value
    for step in sorted(step for step in validations if step >= first_step):
        if found := find_collapse(validations[step]):
            return [f"after step {step}, {found}"]
    return []


def curve_files(folder: Path) -> list[str]:
    """Return the newest files of the CSV logger in the folder of a run, oldest first."""
    try:
        names = os.listdir(folder / "csv")  # noqa: PTH208  # Path would be slow
    except OSError:  # missing, or not a folder
        return []
    versions = sorted((name for name in names if name.startswith("version_")), key=_version)
    files = (f"csv/{name}/metrics.csv" for name in reversed(versions))
    found = (file for file in files if os.path.exists(f"{folder}/{file}"))  # noqa: PTH110
    return list(islice(found, _MAX_FILES))[::-1]


def _version(name: str) -> tuple[int, str]:
    number = name.removeprefix("version_")
    return (int(number) if number.isdecimal() else -1, number)


def _read(folder: Path, name: str, max_bytes: int) -> tuple[dict[str, Curve], str, int]:
    """Return the curves of a file, a description of any damage, and the number of bytes read."""
    try:
        descriptor = open_inside(folder, name)
    except NotReadableError as error:
        return {}, str(error), 0
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        content = file.read(min(size, max_bytes))
        is_whole = size <= max_bytes
    text = content.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    first, *lines = text.removesuffix("\n").split("\n")
    header = _cells(first)
    if not {"step", "epoch"} <= set(header):
        return {}, "the file is empty, or the CSV logger did not write it", len(content)
    if len(header) > _MAX_COLUMNS:
        return {}, f"more than {_MAX_COLUMNS} columns", len(content)
    is_plain = '"' not in text and "\0" not in text and max(map(len, lines), default=0) <= _MAX_LINE
    parsed = [line.split(",") for line in lines] if is_plain else map(_cells, lines)
    rows = [row for row in parsed if len(row) == len(header)]
    try:
        curves = _curves(header, rows)
    except (ValueError, OverflowError):
        rows = [row for row in rows if _is_valid(header, row)]
        curves = _curves(header, rows)
    damaged = len(lines) - len(rows)
    notes = [f"{damaged} damaged {'line' if damaged == 1 else 'lines'} skipped"] if damaged else []
    notes += [] if is_whole else [f"only the first {len(content) / 1e6:.0f} MB were read"]
    return curves, "; ".join(notes), len(content)


def _cells(line: str) -> list[str]:
    """Parse a line on its own, so that an open quote affects only this line."""
    if len(line) > _MAX_LINE:
        return []
    return next(csv.reader([line.replace("\0", "\ufffd")]), [])


def _curves(header: list[str], rows: list[list[str]]) -> dict[str, Curve]:
    """Return the curves of the rows of a file; values beyond 1e300 become infinite.

    Raises:
        ValueError: a cell is not a number, or a step or an epoch is out of range.
        OverflowError: a step or an epoch is infinite.
    """
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    steps, epochs = (_counts(columns.pop(name, ())) for name in ("step", "epoch"))
    curves = {}
    axes: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    for name, texts in columns.items():
        values = list(map(float, filter(None, texts)))
        if not values:
            continue
        if not sum(map(abs, values)) <= MAX_NUMBER:  # NaN is not
            values = list(map(_limited, values))
        present = tuple(compress(range(len(texts)), texts))  # equal for the metrics of a validation
        if present not in axes:
            axes[present] = [steps[k] for k in present], [epochs[k] for k in present]
        curves[name] = Curve(*axes[present], values)
    return curves


def _counts(texts: Sequence[str]) -> list[int]:
    """Return numbers that start at 1 instead of 0."""
    try:
        counts = [int(text) + 1 for text in texts]
    except ValueError:
        counts = [int(float(text)) + 1 for text in texts]
    if counts and not 0 < min(counts) <= max(counts) <= _MAX_STEP:
        raise ValueError("not a step")
    return counts


def _limited(value: float) -> float:
    """Return a value; infinity for a magnitude over 1e300."""
    return value if is_number(value) or math.isnan(value) else math.copysign(math.inf, value)


def _is_valid(header: list[str], row: list[str]) -> bool:
    try:
        _curves(header, [row])
    except (ValueError, OverflowError):
        return False
    return True
