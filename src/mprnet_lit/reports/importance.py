"""Which settings the PSNR depended on, by Optuna."""

import warnings
from collections.abc import Sequence
from typing import Any

from mprnet_lit.reports.differences import setting
from mprnet_lit.reports.trials import Trial
from mprnet_lit.runs.files import is_number
from mprnet_lit.utils.errors import install_hint

LEAST = 4
"""Completed trials below which nothing can be said."""
_BEST, _SHARE = 8, 0.25
"""Trials that count as the best, of few; what share of many.

With Optuna's own tenth, numbers outweigh categories that matter as much.
"""
_FEW = 5
"""Numbers of which there are no more are categories: those of a grid."""


def importance(trials: Sequence[Trial], keys: Sequence[str]) -> tuple[dict[str, float], str]:
    """Return each setting's share in what made trials good, or in a sentence why it isn't known.

    By PED-ANOVA, which compares the settings of the best trials with those of all.
    """
    if not keys:
        return {}, "No setting differs between the runs."
    done = [t for t in trials if t.state == "complete" and t.psnr is not None]
    if len(done) < LEAST:
        return {}, f"Too few runs are complete: {len(done)} of at least {LEAST}."
    if len({t.psnr for t in done}) == 1:
        return {}, "All complete runs have the same PSNR."
    try:
        import optuna
    except ImportError:
        return {}, f"Needs Optuna, which is not installed: {install_hint('optuna')}."
    distributions = {key: _distribution([setting(t, key) for t in done]) for key in keys}
    distributions = {key: found for key, found in distributions.items() if found is not None}
    if not distributions:
        return {}, "No setting differs between the complete runs."
    best = min(max(_SHARE, _BEST / len(done)), 0.5)  # of one or two it would be chance
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(direction="maximize")
            for trial in done:
                values = {key: _value(setting(trial, key), d) for key, d in distributions.items()}
                study.add_trial(
                    optuna.trial.create_trial(
                        params=values, distributions=distributions, value=trial.psnr
                    )
                )
            evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    note = f"What sets the best {best:.0%} of {len(done)} complete runs apart from all"
    note += "; of so few it is a hint at most." if len(done) < 10 * len(shares) else "."
    return {key: float(share) for key, share in shares.items()}, note


def scale(values: Sequence[Any]) -> str:
    """Return how values are laid out on an axis: "linear", "log" or "categories"."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or not all(is_number(value) for value in known):
        return "categories"
    low, high = min(known), max(known)
    return "log" if low > 0 and high / low > 100 else "linear"


def _distribution(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    distinct = list(dict.fromkeys(str(value) for value in values))
    if len(distinct) < 2:
        return None
    layout = scale(values)
    if layout == "categories" or None in values or len(distinct) <= _FEW:
        return CategoricalDistribution(distinct)
    return FloatDistribution(float(min(values)), float(max(values)), log=layout == "log")


def _value(value: Any, distribution: Any) -> Any:
    return str(value) if hasattr(distribution, "choices") else float(value)
