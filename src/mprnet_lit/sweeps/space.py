"""Search space of a sweep: Optuna distributions from Hydra's sweep syntax."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass
class Space:
    """Overrides of a sweep.

    Attributes:
        fixed: overrides that are the same in every trial.
        searched: distributions of the searched values by key.
    """

    fixed: list[str] = field(default_factory=list)
    searched: dict[str, "BaseDistribution"] = field(default_factory=dict)

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """Return the overrides of a trial with the given values by key."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def examples(self) -> list[list[str]]:
        """Return lists of overrides that together contain each choice at least once."""
        choices: dict[str, Any] = {
            key: getattr(distribution, "choices", None) or [distribution.low]  # type: ignore[attr-defined]
            for key, distribution in self.searched.items()
        }
        first = {key: values[0] for key, values in choices.items()}
        others = [{key: value} for key, values in choices.items() for value in values[1:]]
        return [self.overrides(first | other) for other in ({}, *others)]


def parse_space(overrides: Sequence[Override]) -> Space:
    """Split overrides into fixed ones and a search space.

    ``a,b``, ``choice``, ``range`` and ``interval`` define searched values. ``int(interval(a, b))``
    defines integers, and ``tag(log, ...)`` a logarithmic scale.

    Raises:
        UserError: a range is invalid.
    """
    space = Space()
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            space.searched[key] = _distribution(override)
        else:
            space.fixed.append(f"{key}={override.get_value_element_as_str()}")
    return space


def _distribution(override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low or 0), float(high or 0), log=log)
        if isinstance(value, RangeSweep) and not value.shuffle:
            low, high, step = value.start, value.stop, value.step
            if isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
                # As in Python, a range excludes its end.
                return IntDistribution(low, high - 1, log=log, step=step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error
