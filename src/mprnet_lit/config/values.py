"""Checks of the values in a configuration against the rules of their keys."""

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from mprnet_lit.config.rules import MOST, MOST_WHOLE, Rule
from mprnet_lit.config.schema import FOREIGN, RULES
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import printable_lines
from mprnet_lit.utils.url import refuse_url

NOT_AT_URL = "add callbacks=cloud callbacks.cloud.dirpath=URL to save checkpoints at a URL"
"""Remedy if the folder of a run or a sweep is a URL."""
TABLE = RULES | FOREIGN


def check_values(config: DictConfig) -> None:
    """Raise UserError if the value of a key violates its rule."""
    for key, value, rule in settings(config):
        check_value(key, value, rule)


def check_value(key: str, value: Any, rule: Rule) -> None:
    """Raise UserError if a value violates a rule."""
    if not rule.accepts(value):
        raise UserError(f"{key}={shown(value)} must be {rule.words}{_bound(value, rule)}")


def settings(node: DictConfig | ListConfig, path: str = "") -> Iterator[tuple[str, Any, Rule]]:
    """Yield the key, the value and the rule of each setting that has a rule.

    Mandatory settings without a value are skipped. References to other nodes are skipped too,
    because the settings of those nodes are yielded under their own keys.
    """
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    rules = section_rules(path, str(target or "")) if isinstance(node, DictConfig) else {}
    names: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
    names = sorted(names, key=lambda name: name == "hydra")  # last, because it refers to other keys
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

    It also checks that the folder of a single run, which Hydra creates, is not a URL.

    Hydra calls it before creating the launcher and the sweeper, whose settings are checked too.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Exit if the folder of the run is a URL."""
        try:
            folder = OmegaConf.to_container(config.hydra.run, resolve=False)
            refuse_url("hydra.run.dir", dict(folder)["dir"], NOT_AT_URL)  # type: ignore[arg-type]
        except UserError as error:
            _fail(error)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Exit if a value violates its rule. Hydra would turn an ``Exception`` into a warning."""
        try:
            refuse_url("hydra.sweep.dir", config.hydra.sweep.dir, NOT_AT_URL)
            check_values(config)
        except UserError as error:
            _fail(error)


def _fail(error: UserError) -> NoReturn:
    print(f"Error: {printable_lines(mask_text(str(error)))}", file=sys.stderr)
    raise SystemExit(1) from error


def section_rules(path: str, target: str) -> dict[str, Rule]:
    """Return the rules of a node by key.

    Args:
        path: dotted key of the node.
        target: ``_target_`` of the node; empty for a node without one.
    """
    found: dict[str, Rule] = {}
    for section, rules in TABLE.items():
        if fnmatchcase(path, section) or (target and fnmatchcase(target, section)):
            found |= rules
    return found


def shown(value: Any) -> str:
    """Return a value in YAML syntax, shortened to 60 characters."""
    plain = {None: "null", True: "true", False: "false"}
    text = plain[value] if value is None or isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bound(value: Any, rule: Rule) -> str:
    """Return the bound that a number exceeds, if the description of its rule lacks the bound."""
    if not isinstance(value, int | float) or -MOST <= value <= MOST_WHOLE:
        return ""
    if rule.accepts(MOST):
        return f", finite and at most {MOST:g}"
    too_large = MOST_WHOLE + 1  # a multiple of 8, as some rules require
    if rule.accepts(too_large - 8) and not rule.accepts(too_large):
        return f", and less than {too_large}"
    return ""
