"""Rules for the values of settings, each with a description for error messages."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import GenericAlias, NoneType, UnionType
from typing import Any

MOST_WHOLE = 2**31 - 1
"""Default upper bound of whole numbers."""
MOST = 1e30
"""Largest magnitude of a number."""


@dataclass(frozen=True)
class Rule:
    """Condition on the value of a setting.

    Attributes:
        words: completion of the sentence "KEY=VALUE must be ...".
        accepts: function that returns whether a value satisfies the rule.
        type: type annotation for OmegaConf.
    """

    words: str
    accepts: Callable[[Any], bool]
    type: Any = Any

    def __or__(self, other: "Rule") -> "Rule":
        """Return the rule that accepts a value if at least one of the two rules accepts it."""
        return Rule(
            f"{self.words}, or {other.words}",
            lambda value: self.accepts(value) or other.accepts(value),
            self.type | other.type,
        )


NULL = Rule("null", lambda value: value is None, NoneType)
FLAG = Rule("true or false", lambda value: isinstance(value, bool), bool)


def same(rule: Rule, keys: str) -> dict[str, Rule]:
    """Return the same rule for several space-separated keys."""
    return dict.fromkeys(keys.split(), rule)


def whole(low: int, high: int = MOST_WHOLE, multiple: int = 1) -> Rule:
    """Return the rule for multiples of ``multiple`` from ``low`` to ``high``."""
    if multiple > 1:
        words = f"a positive multiple of {multiple}"
    else:
        words = "a whole number" + (
            f", {low} or more" if high == MOST_WHOLE else f" from {low} to {high}"
        )
    return Rule(words, lambda v: is_whole(v) and low <= v <= high and v % multiple == 0, int)


def number(
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> Rule:
    """Return the rule for finite numbers within bounds; ``above`` and ``below`` are exclusive."""
    lowest = f" above {above:g}" if above > -math.inf else f", {low:g} or more"
    highest = f"below {below:g}" if below < math.inf else f"at most {high:g}"
    words = "a number" + ("" if max(low, above) == -math.inf else lowest)
    words += "" if min(high, below) == math.inf else f" and {highest}"

    def accepts(value: Any) -> bool:
        return is_number(value) and low <= value <= high and above < value < below

    return Rule(words, accepts, int | float)


def one_of(*names: str) -> Rule:
    """Return the rule for a set of names; numbers are compared as text (``precision=32``)."""
    words = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    kind = int | str if any(map(str.isdecimal, names)) else str
    return Rule(words, lambda value: not isinstance(value, bool) and str(value) in names, kind)


def text(pattern: str, words: str) -> Rule:
    """Return the rule for strings that match a regular expression completely."""
    return Rule(words, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None, str)


def listed(rule: Rule, length: int | None = None, least: int = 0) -> Rule:
    """Return the rule for lists of an exact length, or of at least ``least`` items."""
    kind = "a non-empty list" if least else "a list"
    count = "items" if length is None else f"{length} items"

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) >= least
            and length in (None, len(value))
            and all(map(rule.accepts, value))
        )

    item = Any if isinstance(rule.type, UnionType) else rule.type
    return Rule(f"{kind} of {count}, each {rule.words}", accepts, GenericAlias(list, item))


def spread(rule: Rule) -> Rule:
    """Return the rule for a number or a range ``[low, high]`` to sample from."""
    pair = listed(rule, 2)
    return Rule(
        f"{rule.words}, or a pair [low, high] of such numbers",
        lambda value: rule.accepts(value) or (pair.accepts(value) and value[0] <= value[1]),
    )


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a number from ``-MOST`` to ``MOST``."""
    return (is_whole(value) or isinstance(value, float)) and -MOST <= value <= MOST


SEED = whole(0, 2**32 - 1)
COUNT = whole(1)
SIDE = whole(8, multiple=8)
CORES = 1024
"""Largest number of devices or of DataLoader workers."""
NUMBER = number()
NOT_NEGATIVE = number(0)
POSITIVE = number(above=0)
SHARE = number(0, 1)
AMOUNT = number(above=0, high=1e6)
TEXT = text(".*", "text")
