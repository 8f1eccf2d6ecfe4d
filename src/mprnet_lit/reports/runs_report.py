"""HTML report of one run or of all runs in a directory."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mprnet_lit.reports.curves import Curve, thinned
from mprnet_lit.reports.differences import (
    Differences,
    config_differences,
    environment_differences,
    setting,
    varying,
)
from mprnet_lit.reports.figures import (
    FAILED,
    PALETTE,
    hover_name,
    label,
    natural,
    parallel_coordinates,
    run_looks,
)
from mprnet_lit.reports.importance import importance
from mprnet_lit.reports.names import short_names
from mprnet_lit.reports.page import fill
from mprnet_lit.reports.pictures import embed_panels
from mprnet_lit.reports.trials import MAX_CURVES, Trial, find_trials
from mprnet_lit.runs.files import is_number
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError, install_hint

_MAX_POINTS = 100_000
"""Maximum total number of points of all curves, unless a curve would get fewer than 40."""
_MIN_PER_CURVE, _MAX_PER_CURVE = 40, 1000
_MAX_MESSAGES = 1_000_000
"""Maximum total length of the error messages in characters, unless one would get fewer than 200."""
_MAX_NAMES = 8
"""Maximum number of values per key, and of run names per value; the others are counted."""
_STATES = ("complete", "pruned", "failed", "killed", "running", "waiting", "unfinished")


def write_runs_report(root: Path, path: Path) -> list[Trial]:
    """Write the report of all runs in a directory atomically, as one file without network access.

    Args:
        root: directory of a run, or directory that contains several runs.
        path: HTML file to write or replace.

    Returns:
        The runs.

    Raises:
        UserError: plotly is not installed, ``root`` contains no run, or ``path`` can't be written.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        hint = install_hint("report")
        raise UserError(f"mode=report needs plotly, which is not installed: {hint}") from error
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {problem}: set input to the folder of one or more runs")
    with _no_garbage_collection():
        common, trials = find_trials(root)
        if not trials:
            raise UserError(
                f"{root} contains no training run: set input to the folder of a run (it contains "
                "run.json) or of several, such as runs"
            )
        title = trials[0].name if len(trials) == 1 else f"{common.name}: {len(trials)} runs"
        write_atomic(path, fill("runs_report", title, describe(trials), library=get_plotlyjs()))
    return trials


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Disable the search for cycles, which takes a third of the time with millions of values."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def describe(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the content of the page as plain values."""
    keys = varying(trials)
    figures, why = importance(trials, keys)
    panels = embed_panels(trials)  # adds notes to the trials
    same, differ = environment_differences(trials)
    names = sorted({name for trial in trials for name in trial.curves})
    lengths = [curve.size for trial in trials for curve in trial.curves.values()]
    max_points = _points_per_curve(lengths)
    failed = sum(trial.error is not None for trial in trials)
    max_error = max(_MAX_MESSAGES // max(failed, 1), 200)
    single = trials[0] if len(trials) == 1 else None
    all_names = [trial.name for trial in trials]
    short = dict(zip(all_names, short_names(all_names), strict=True))
    return {
        "headline": headline(trials),
        "keys": keys,
        "trials": [
            _trial(trial, keys, max_points, max_error)
            | {"short": short[trial.name], "color": c, "dash": d}
            for trial, (c, d) in zip(trials, run_looks(trials), strict=True)
        ],
        "metrics": {name: label(name) for name in names},
        "palette": PALETTE,
        "thinned": max_points if max_points < max(lengths, default=0) else None,
        "maxCurves": MAX_CURVES,
        "panels": panels,
        "parallel": parallel_coordinates(trials, keys),
        "importance": {"figures": figures, "note": why},
        "environment": {"same": list(same.items()), "differ": _rows(differ, short)},
        "config": {
            "differ": _rows(config_differences(trials), short),
            "whole": [[k, _plain(v)] for k, v in single.config.items()] if single else None,
        },
    }


def headline(trials: Sequence[Trial]) -> list[list[str]]:
    """Return the main facts as pairs of a name and a value."""
    facts = [["best PSNR", "not measured"]]
    measured = [(trial.psnr, trial) for trial in trials if trial.psnr is not None]
    if measured:
        psnr, best = max(measured, key=lambda pair: pair[0])
        facts = [["best PSNR", f"{psnr:.2f} dB"]]
        if "ssim" in best.best:
            facts.append(["SSIM", f"{best.best['ssim']:.4f}"])
        if "psnr_degraded" in best.best:
            facts.append(["gain over the input", f"{psnr - best.best['psnr_degraded']:+.2f} dB"])
        if len(trials) > 1:
            facts.append(["best run", best.name])
        elif "epoch" in best.best:
            facts.append(["at epoch", f"{best.best['epoch']:.0f}"])
    if len(trials) == 1:
        return [*facts, ["state", trials[0].state]]
    states = Counter(trial.state for trial in trials)
    names = dict.fromkeys((*_STATES, *states))
    counted = ", ".join(f"{states[name]} {name}" for name in names if states[name])
    return [*facts, ["runs", f"{len(trials)}: {counted}"]]


def _points_per_curve(lengths: Sequence[int]) -> int:
    """Return the maximum length of a thinned curve. Short curves leave room for the others."""
    remaining = _MAX_POINTS
    for at, length in enumerate(sorted(lengths)):
        share = remaining // (len(lengths) - at)
        if length > share:
            return min(max(share, _MIN_PER_CURVE), _MAX_PER_CURVE)
        remaining -= length
    return _MAX_PER_CURVE


def _trial(trial: Trial, keys: Sequence[str], max_points: int, max_error: int) -> dict[str, Any]:
    error = None if trial.error is None else trial.error[:max_error]
    if trial.folder is not None and error is not None:
        error = error.replace(str(trial.folder), trial.name)
    return {
        "name": trial.name,
        "label": hover_name(trial),
        "failed": trial.state in FAILED,
        "state": trial.state,
        "error": error,
        "settings": [_plain(setting(trial, key)) for key in keys],
        **{key: _rounded(trial.best.get(key), 7) for key in ("psnr", "ssim", "latency", "epoch")},
        "parameters": trial.parameters,
        "seconds": None if trial.seconds is None else round(trial.seconds),
        "curves": {name: _curve(curve, max_points) for name, curve in sorted(trial.curves.items())},
        "notes": trial.notes,
    }


def _curve(curve: Curve, max_points: int) -> list[list[Any]]:
    """Return the steps, the epochs and the values of a thinned curve."""
    kept = thinned(curve, max_points)
    return [kept.steps, kept.epochs, [_rounded(value, 6) for value in kept.values]]


def _rows(differ: Differences, short: Mapping[str, str]) -> list[list[Any]]:
    """Return each key that differs, at most eight values with short names, and their number."""

    def named(names: list[str]) -> str:
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return ", ".join(short[name] for name in names[:_MAX_NAMES]) + more

    ordered = {k: sorted(v, key=lambda pair: natural(pair[0])) for k, v in differ.items()}
    return [
        [k, [[value, named(names)] for value, names in v[:_MAX_NAMES]], len(v)]
        for k, v in ordered.items()
    ]


def _plain(value: Any) -> Any:
    """Return a value that JSON can represent; NaN and infinities become text."""
    if value is None or isinstance(value, bool) or is_number(value):
        return value
    if isinstance(value, list):
        return f"[{', '.join(str(_plain(each)) for each in value)}]"
    return str(value)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
