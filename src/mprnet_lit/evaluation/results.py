"""Results of an evaluation: table on the terminal, score files, pictures and HTML report."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mprnet_lit.evaluation.evaluator import Row, Scores, TestSet
from mprnet_lit.images.reading import to_float, to_uint8, write_png
from mprnet_lit.inference import Restorer
from mprnet_lit.metrics import mean_scores
from mprnet_lit.reports.image_report import Entry, write_report
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.text import printable

_SHOWN = 3
"""Number of images for which pictures are written, at each end of the PSNR ranking."""


@dataclass(frozen=True)
class Result:
    """Result of an evaluation.

    Attributes:
        name: name of the benchmark.
        protocol: name of the protocol of the metrics.
        sets: test sets of the benchmark.
        published: published scores of the whole benchmark; see :class:`TestSet`.
        rows: scores of each image.
        settings: active options by name, as text.
        tlc: whether the test-time local converter was on.
        directions: whether a lower or a higher score is better, by name of a further metric.
    """

    name: str
    protocol: str
    sets: Sequence[TestSet]
    published: Sequence[dict[str, Any]]
    rows: Sequence[Row]
    settings: dict[str, str]
    tlc: bool
    directions: Mapping[str, str] = field(default_factory=dict)

    def rows_of(self, test_set: TestSet) -> list[Row]:
        """Return the scores of the images of a test set."""
        return [row for row in self.rows if row.set_name == test_set.name]

    @cached_property
    def set_means(self) -> dict[str, Scores]:
        """Mean scores of each test set, by its name."""
        return {s.name: mean_scores(row.scores for row in self.rows_of(s)) for s in self.sets}

    @cached_property
    def mean(self) -> Scores:
        """Mean of the mean scores of all test sets."""
        return mean_scores(self.set_means.values())


def write_result(result: Result, folder: Path, restorer: Restorer, console: Console) -> None:
    """Write ``scores.csv``, ``scores.json``, ``pictures/`` and ``report.html``; print a table."""
    write_atomic(folder / "scores.csv", _csv(result).encode())
    write_atomic(folder / "scores.json", (json.dumps(_json(result), indent=2) + "\n").encode())
    entries = _pictures(result, folder / "pictures", restorer)
    write_report(
        folder / "report.html",
        f"Evaluation: {result.name}",
        result.settings,
        _summary(result),
        entries,
        omitted=sum(entry.restored is None for entry in entries),
    )
    console.print(_table(result))
    for line in _remarks(result):
        print_line(console, line)
    places = {"scores": folder / "scores.csv", "report": folder / "report.html"}
    print_table(console, result.settings | places)


def _tiling_note(rows: Sequence[Row]) -> str:
    """Return a note with the number of tiled images; empty if no image was tiled."""
    tiled = sum(row.tiles > 1 for row in rows)
    return f", {tiled} of {len(rows)} images in tiles" if tiled else ""


def _csv(result: Result) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *result.rows[0].scores, "tiles"])
    for row in result.rows:
        scores = (f"{v:.6f}" for v in row.scores.values())
        writer.writerow([_cell(_title(result, row)), *scores, row.tiles])
    return text.getvalue()


def _json(result: Result) -> dict[str, Any]:
    return {
        "benchmark": result.name,
        "protocol": result.protocol,
        "images": len(result.rows),
        "images_in_tiles": sum(row.tiles > 1 for row in result.rows),
        "means": _finite(result.mean),
        "published": _compared(result.mean, result.published, result.tlc),
        "sets": {
            s.name: {
                "images": len(s.images),
                "expected_images": s.expected,
                "means": _finite(result.set_means[s.name]),
                "published": _compared(result.set_means[s.name], s.published, result.tlc),
            }
            for s in result.sets
        },
        "settings": result.settings,
    }


def _compared(
    measured: Scores, published: Sequence[dict[str, Any]], tlc: bool
) -> list[dict[str, Any]]:
    """Add ``difference`` (measured minus published score) to published scores.

    ``difference`` is ``None`` if ``tlc`` differs between measured and published scores.
    """
    compared = []
    for scores in published:
        difference = {k: measured[k] - scores[k] for k in ("psnr", "ssim") if k in scores}
        comparable = bool(scores.get("tlc")) == tlc
        compared.append(scores | {"difference": difference if comparable else None})
    return compared


def _summary(result: Result) -> list[list[str]]:
    """Return the header and the lines of the table, without empty columns."""
    several = len(result.sets) > 1
    groups = [
        (f"{s.name}: ", result.set_means[s.name], s.published, result.rows_of(s))
        for s in (result.sets if several else ())
    ]
    prefix = "mean of the sets: " if several else ""
    groups.append((prefix, result.mean, result.published, list(result.rows)))
    lines = [["", "PSNR", "SSIM", "PSNR difference", "SSIM difference"]]
    for prefix, measured, published, rows in groups:
        for label, key in (("degraded input", "_degraded"), (f"restored{_tiling_note(rows)}", "")):
            psnr, ssim = measured[f"psnr{key}"], measured[f"ssim{key}"]
            lines.append([f"{prefix}{label}", _number(psnr, 2), _number(ssim, 4), "", ""])
        for scores in _compared(measured, published, result.tlc):
            tlc, difference = ", TLC" if scores.get("tlc") else "", scores["difference"] or {}
            lines.append(
                [
                    f"{prefix}published, {scores['weights']} weights{tlc}",
                    _number(scores.get("psnr"), 2),
                    _number(scores.get("ssim"), 3),
                    _number(difference.get("psnr"), 2, "+"),
                    _number(difference.get("ssim"), 3, "+"),
                ]
            )
    shown = [k for k in range(5) if k < 3 or any(line[k] for line in lines[1:])]
    return [[line[k] for k in shown] for line in lines]


def _table(result: Result) -> Table:
    title = f"{result.name}: {len(result.rows)} images, protocol {result.protocol}"
    table = Table(title=Text(printable(title)))
    header, *lines = _summary(result)
    for column in header:
        table.add_column(column, justify="right" if column else "left")
    for line in lines:
        table.add_row(*(Text(printable(cell)) for cell in line))
    return table


def _remarks(result: Result) -> list[str]:
    """Return remarks on the comparability with published scores, and perceptual scores."""
    remarks = [
        f"{s.name}: {len(s.images)} images, but the published scores are for {s.expected} images"
        for s in result.sets
        if s.expected is not None and s.expected != len(s.images)
    ]
    remarks += [
        f"{name} is on ({result.settings[name]}), but off in the published scores"
        for name in ("tiling", "self-ensemble")
        if result.published and result.settings[name] != "off"
    ]
    if result.published and result.settings["strength"] != "1":
        strength = result.settings["strength"]
        remarks.append(f"strength is {strength}, but 1 in the published scores")
    if (note := _tiling_note(result.rows)) and not result.published:
        remarks.append(f"Tiling changes the scores{note}: compare only scores with the same tiling")
    for name, better in result.directions.items():
        restored, degraded = result.mean[name], result.mean[f"{name}_degraded"]
        remarks.append(
            f"{name.upper()} {restored:.4f} (degraded input {degraded:.4f}; {better} is better)"
        )
    return remarks


def _pictures(result: Result, folder: Path, restorer: Restorer) -> list[Entry]:
    """Write the pictures, and return a report entry for each image: first those with pictures."""
    order = sorted(result.rows, key=lambda row: row.scores["psnr"])
    worst = order[:_SHOWN]
    best = order[: len(worst) - 1 : -1][:_SHOWN]
    entries = []
    for kind, rows in (("worst", worst), ("best", best)):
        for number, row in enumerate(rows, 1):
            degraded, target = row.image.read()
            pixels = (degraded, *restorer.stages(degraded), target)
            before, *stages, restored, after = (to_uint8(to_float(image)) for image in pixels)
            images = (before, restored, after)
            write_png(folder / f"{kind}_{number}.png", np.concatenate(images, axis=1))
            title = f"{_title(result, row)} ({kind} {number})"
            entries.append(Entry(title, *images, tuple(stages), _with_labels(row.scores)))
    shown = {id(row) for row in (*worst, *best)}
    entries += [
        Entry(_title(result, row), scores=_with_labels(row.scores))
        for row in result.rows
        if id(row) not in shown
    ]
    return entries


def _with_labels(scores: Scores) -> Scores:
    """Replace names by labels: ``psnr_degraded`` by ``PSNR degraded``."""
    return {
        name.removesuffix("_degraded").upper() + name.endswith("_degraded") * " degraded": value
        for name, value in scores.items()
    }


def _cell(name: str) -> str:
    """Return a name for a CSV cell: no control characters, and not a spreadsheet formula."""
    return printable(f"'{name}" if name.startswith(("=", "+", "-", "@")) else name)


def _title(result: Result, row: Row) -> str:
    return f"{row.set_name}/{row.image.name}" if len(result.sets) > 1 else row.image.name


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "" if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"


def _finite(scores: Scores) -> dict[str, float | None]:
    """Replace NaN, which JSON does not have, by ``None``."""
    return {name: None if math.isnan(value) else value for name, value in scores.items()}
