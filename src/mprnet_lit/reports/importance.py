"""Importance of the settings for the PSNR, by Optuna."""

import warnings
from collections.abc import Sequence
from typing import Any

from mprnet_lit.reports.differences import setting
from mprnet_lit.reports.figures import MAX_AXES, RAMP, label, plain, scale
from mprnet_lit.reports.trials import Trial
from mprnet_lit.utils.errors import install_hint

_MIN_RUNS = 4
"""Minimum number of complete runs."""
_MIN_BEST, _MIN_BEST_SHARE = 8, 0.25
"""Minimum number and share of the runs that count as the best.

Optuna's default share of 0.1 favors numbers over categories of the same importance.
"""
_MAX_CATEGORIES = 5
"""Maximum number of distinct numbers that are treated as categories, as in a grid search."""
_MAX_KEYS = 50
"""Maximum number of settings that are analyzed."""
_MAX_POINTS = 500
"""Maximum number of runs in the figures of the single settings, which are drawn in SVG."""
_Column = tuple[list[Any], Any]


def importance(trials: Sequence[Trial], keys: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return Optuna's figures of the importance of all settings and of each setting, and a note.

    PED-ANOVA compares the settings of the best runs with those of all runs.

    Args:
        trials: runs, in the order of their numbers.
        keys: settings that differ between the runs.

    Returns:
        The figures, the most important setting first, and a note. The note describes the basis of
        the figures, or the reason for their absence.
    """
    if not keys:
        return [], "No setting differs between the runs."
    numbers = [k for k, t in enumerate(trials) if t.state == "complete" and t.psnr is not None]
    done = [trials[k] for k in numbers]
    if len(done) < _MIN_RUNS:
        return [], f"Too few runs are complete: {len(done)} of at least {_MIN_RUNS}."
    if len({t.psnr for t in done}) == 1:
        return [], "All complete runs have the same PSNR."
    try:
        import optuna
    except ImportError:
        return [], f"The importance needs Optuna, which is not installed: {install_hint('optuna')}."
    found = {label(key): _column([setting(t, key) for t in done]) for key in keys[:_MAX_KEYS]}
    columns = {key: column for key, column in found.items() if column is not None}
    if not columns:
        return [], "No setting differs between the complete runs."
    best = min(
        max(_MIN_BEST_SHARE, _MIN_BEST / len(done)), 0.5
    )  # one or two best runs are not significant
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = _study(done, columns)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
            first = list(shares)[:MAX_AXES]
            shown = _spread(done)
            some = _study([done[k] for k in shown], _at(columns, shown))
            # The figures copy all trials of a study several times, and the bars need none.
            one = _study(done[:1], _at(columns, [0]))
            bars = optuna.visualization.plot_param_importances(one, _known(shares), first)
            slices = optuna.visualization.plot_slice(some, first, target_name="PSNR (dB)")
    finally:
        optuna.logging.set_verbosity(verbosity)
    bars.update_layout(yaxis_title=None)
    bars.update_xaxes(range=[0, 1.2 * max(shares.values())])  # room for the values of the bars
    slices.update_xaxes(dtick=1, selector={"type": "log"})
    for trace in slices.data:  # whose colors are the numbers of the trials in the study
        trace.marker.color = [numbers[shown[number]] for number in trace.marker.color]
    slices.update_traces(marker={"colorscale": RAMP, "colorbar": {"title": {"text": "run"}}})
    note = f"Settings that distinguish the best {best:.0%} from all {len(done)} complete runs"
    note += " (uncertain: few runs)." if len(done) < 10 * len(shares) else "."
    if len(done) > _MAX_POINTS:
        note += f" The points are {_MAX_POINTS} of these runs, evenly spread over the PSNR."
    return [plain(bars), plain(slices)], note


def _known(shares: dict[str, float]) -> Any:
    """Return an evaluator that returns known shares."""
    from optuna.importance import BaseImportanceEvaluator

    class Known(BaseImportanceEvaluator):
        def evaluate(
            self, study: Any, params: Any = None, *, target: Any = None
        ) -> dict[str, float]:
            return {key: shares[key] for key in params or shares}

    return Known()


def _study(done: Sequence[Trial], columns: dict[str, _Column]) -> Any:
    """Return an in-memory study of complete runs, with the values of their settings."""
    import optuna

    study = optuna.create_study(direction="maximize")
    distributions = {key: distribution for key, (_, distribution) in columns.items()}
    rows = zip(*(values for values, _ in columns.values()), strict=True)
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(zip(columns, row, strict=True)),
            distributions=distributions,
            value=trial.psnr,
        )
        for trial, row in zip(done, rows, strict=True)
    )
    return study


def _spread(done: Sequence[Trial]) -> list[int]:
    """Return the places of at most 500 runs, evenly spread over the PSNR."""
    ranked = sorted(range(len(done)), key=lambda k: done[k].psnr or 0)
    if len(ranked) <= _MAX_POINTS:
        return list(range(len(done)))
    return sorted(ranked[k * (len(ranked) - 1) // (_MAX_POINTS - 1)] for k in range(_MAX_POINTS))


def _at(columns: dict[str, _Column], places: Sequence[int]) -> dict[str, _Column]:
    return {key: ([values[k] for k in places], kind) for key, (values, kind) in columns.items()}


def _column(values: Sequence[Any]) -> _Column | None:
    """Return the values of a setting and Optuna's distribution, or ``None`` if they are equal."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    names = [label(str(value)) for value in values]
    distinct = list(dict.fromkeys(names))
    if len(distinct) < 2:
        return None
    kind = scale(values)
    if kind == "categories" or None in values or len(distinct) <= _MAX_CATEGORIES:
        return names, CategoricalDistribution(distinct)
    numbers = [float(value) for value in values]
    return numbers, FloatDistribution(min(numbers), max(numbers), log=kind == "log")
