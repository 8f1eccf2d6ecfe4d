"""Cache of functions of one short text, for texts that recur in many files."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

T = TypeVar("T")
_MAX_LENGTH, _MAX_TEXTS = 200, 8192


def cache_short(function: Callable[[str], T]) -> Callable[[str], T]:
    """Cache the latest results of a function; long texts are not kept in memory.

    Args:
        function: function of a text, without side effects.
    """
    cached = lru_cache(maxsize=_MAX_TEXTS)(function)

    @wraps(function)
    def call(text: str) -> T:
        return cached(text) if len(text) <= _MAX_LENGTH else function(text)

    return call
