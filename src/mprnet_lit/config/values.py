"""Checks of the settings of the configuration by the rules of the table."""

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from mprnet_lit.config.rules import MOST, MOST_WHOLE, Rule
from mprnet_lit.config.value_table import TABLE
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import printable_lines


def check_values(config: DictConfig) -> None:
    """Check every setting that has a rule in the table.

    Raises:
        UserError: a value breaks its rule.
    """
    for key, value, rule in settings(config):
        check_value(key, value, rule)


def check_value(key: str, value: Any, rule: Rule) -> None:
    """Check the value of one setting.

    Raises:
        UserError: the value breaks the rule.
    """
    if not rule.accepts(value):
        raise UserError(f"{key}={_shown(value)} must be {rule.words}{_bound(value, rule)}")


def settings(node: DictConfig | ListConfig, path: str = "") -> Iterator[tuple[str, Any, Rule]]:
    """Yield the key, the value and the rule of each setting that has a rule.

    Mandatory settings without a value are skipped, and so are references to another group, whose
    settings are yielded under their own keys.
    """
    rules = _rules(node, path)
    names: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    names = sorted(names, key=lambda name: name == "hydra")  # it refers to keys that people set
    for name in names:
        key = f"{path}.{name}" if path else str(name)
        if OmegaConf.is_missing(node, name):
            continue
        if name not in rules and OmegaConf.is_interpolation(node, name):
            continue
        value = node[name]
        nested = OmegaConf.is_config(value)
        if nested and (name not in rules or "_target_" in value):
            yield from settings(value, key)
        elif name in rules:
            yield key, OmegaConf.to_container(value, resolve=True) if nested else value, rules[name]


class CheckBeforeSweep(Callback):
    """Hydra callback that checks the configuration of a sweep before the first job starts.

    Hydra calls it before it builds the launcher and the sweeper, whose settings are checked too.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """End the process if a value breaks its rule: Hydra ignores other exceptions."""
        try:
            check_values(config)
        except UserError as error:
            print(f"Error: {printable_lines(mask_text(str(error)))}", file=sys.stderr)
            raise SystemExit(1) from error


def _rules(node: DictConfig | ListConfig, path: str) -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    if isinstance(node, DictConfig):
        target = str(node["_target_"]) if "_target_" in node else ""
        for section, rules in TABLE.items():
            if fnmatchcase(path, section) or (target and fnmatchcase(target, section)):
                found |= rules
    return found


def _shown(value: Any) -> str:
    plain = {None: "null", True: "true", False: "false"}
    shown = plain[value] if value is None or isinstance(value, bool) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _bound(value: Any, rule: Rule) -> str:
    """Return the bound that a number breaks if the words of its rule do not name that bound."""
    if not isinstance(value, int | float) or -MOST <= value <= MOST_WHOLE:
        return ""
    if rule.accepts(MOST):
        return f", finite and at most {MOST:g}"
    too_large = MOST_WHOLE + 1  # a multiple of 8, as some rules demand
    if rule.accepts(too_large - 8) and not rule.accepts(too_large):
        return f", and less than {too_large}"
    return ""
