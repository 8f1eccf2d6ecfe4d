"""Differences between runs in settings, machine and package versions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from mprnet_lit.reports.trials import Trial

_NOT_A_SETTING = ("hydra", "paths", "mode", "resume", "logger", "tracking", "sweep", "debug")
"""Top-level keys that do not affect the result of a run."""
_NO_DIFFERENCE = ("paths.run", "resume", "sweep.", "callbacks.pruner.")
"""Prefixes of keys that depend on the folder of a run or on its sweep."""
_NOT_SET = object()
Differences = dict[str, list[tuple[str, list[str]]]]
"""Values by key, each with the names of the runs that have it."""


def varying(trials: Sequence[Trial]) -> list[str]:
    """Return the keys of the settings that differ between the runs.

    The keys come from the recorded overrides. If a run has no overrides, keys of the configurations
    are added. Among keys that vary together, only the shortest is added.
    """
    known = [t for t in trials if t.overrides or t.config]
    keys = list(dict.fromkeys(key for trial in known for key in trial.overrides))
    keys = [key for key in keys if _is_setting(key) and len(_distinct(known, key)) > 1]
    if any(not trial.overrides for trial in known):
        seen = {tuple(_text(setting(t, key)) for t in known) for key in keys}
        added = config_differences(known)
        for key in sorted(added, key=lambda key: (len(key), key)):
            pattern = tuple(_text(setting(t, key)) for t in known)
            if _is_setting(key) and pattern not in seen:
                seen.add(pattern)
                keys.append(key)
    return keys


def setting(trial: Trial, key: str) -> Any:
    """Return the value of a key: from the overrides, else from the configuration, else ``None``."""
    if key in trial.overrides:
        return trial.overrides[key]
    if key in trial.config:
        return trial.config[key]
    return trial.config.get(f"{key}.size", trial.config.get(f"{key}.name"))  # model, task


def config_differences(trials: Sequence[Trial]) -> Differences:
    """Return the keys whose values differ between the configurations of the runs."""
    return _differences({t.name: t.config for t in trials if t.resolved}, _NO_DIFFERENCE)


def environment_differences(trials: Sequence[Trial]) -> tuple[dict[str, str], Differences]:
    """Return the common and the differing entries of the environments of the runs."""
    known = {t.name: t.environment for t in trials if t.environment}
    hidden = ("command",) if len(known) > 1 else ()
    differ = _differences(known, hidden)
    first = next(iter(known.values()), {})
    same = {k: _text(v) for k, v in first.items() if k not in differ and k not in hidden}
    return same, differ


def _differences(known: Mapping[str, Mapping[str, Any]], skipped: tuple[str, ...]) -> Differences:
    """Return the keys that differ between the runs, without keys that have a skipped prefix."""
    first, found = next(iter(known.values()), {}), {}
    suspects = set[str]()  # runs that were read with one template share the other values
    for values in known.values():
        suspects.update(k for k, v in values.items() if v is not first.get(k, _NOT_SET))
        suspects |= first.keys() - values.keys()
    for key in dict.fromkeys(chain.from_iterable(known.values())):
        if key not in suspects or key.startswith(skipped):
            continue
        column = [values.get(key, _NOT_SET) for values in known.values()]
        if _are_same(column):
            continue
        names: dict[str, list[str]] = {}
        for name, value in zip(known, column, strict=True):
            text = "not set" if value is _NOT_SET else _text(value)
            names.setdefault(text, []).append(name)
        if len(names) > 1:
            found[key] = list(names.items())
    return found


def _are_same(values: Sequence[Any]) -> bool:
    """Return whether plain values are the same; ``False`` for lists, which need a comparison."""
    first = values[0]
    return not isinstance(first, list) and all(
        type(value) is type(first) and value == first for value in values
    )


def _is_setting(key: str) -> bool:
    group = key.partition(".")[0].partition("/")[0]
    return group not in _NOT_A_SETTING and not key.startswith("callbacks.pruner.")


def _distinct(trials: Iterable[Trial], key: str) -> set[str]:
    """Return the distinct values of a key; skip runs that failed before they recorded a value."""
    values = [(trial, setting(trial, key)) for trial in trials]
    return {_text(value) for trial, value in values if value is not None or trial.resolved}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
