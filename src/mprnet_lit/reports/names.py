"""Short and distinct names of runs."""

from collections import Counter
from collections.abc import Sequence

_LENGTHS = (28, 40, 60)
"""Tried lengths of a short name, in characters."""


def short_names(names: Sequence[str]) -> list[str]:
    """Return a short name for each run; different names remain different.

    A long name is shortened in the middle. If short names of at most 28 characters coincide, longer
    ones are tried; the last resort is a number.
    """
    distinct = list(dict.fromkeys(names))
    for length in _LENGTHS:
        short = [_shortened(name, length) for name in distinct]
        if len(set(short)) == len(distinct):
            break
    else:
        total, seen = Counter(short), Counter[str]()
        for k, name in enumerate(short):
            seen[name] += 1
            if total[name] > 1:
                short[k] = f"{name} ({seen[name]})"
    by_name = dict(zip(distinct, short, strict=True))
    return [by_name[name] for name in names]


def _shortened(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    head = length // 2
    return f"{name[:head]}\u2026{name[head + 1 - length :]}"
