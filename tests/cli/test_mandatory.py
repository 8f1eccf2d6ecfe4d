"""Mandatory values: a command without one fails with an error that names its key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.test_bad_input import error_message
from tests.conftest import Cli

from mprnet_lit.config.groups import CONFIG_DIR, file_keys, package

VALUES = {"weights": "denoise"}  # loaded before the data


def mandatory_keys(path: Path) -> list[Any]:
    """Return the mandatory keys of an option's file that no recipe sets."""
    text, prefix = path.read_text(), package(path)

    def values(node: Any, above: Any) -> Iterator[Any]:
        for key, value in node.items() if isinstance(node, dict) else ():
            yield from values(value, f"{above}{key}.")
            yield f"{above}{key}", str(value)

    content = yaml.safe_load(text) or {}
    own = dict(values(content, prefix))
    found = [k for k, v in own.items() if v == "???" or v.startswith("${mprnet.required:")]
    for default in content.get("defaults", []):
        if isinstance(default, dict):
            ((group, option),) = default.items()
            file = CONFIG_DIR / group.removeprefix("override /") / f"{option}.yaml"
            found += [k for k in mandatory_keys(file) if k not in own] if file.is_file() else []
    return [key for key in found if key not in file_keys("recipe/cpu_denoise")]


CASES = [
    (f"{'mode' if path.parent == CONFIG_DIR else path.parent.name}={path.stem}", key, tuple(keys))
    for path in sorted(CONFIG_DIR.glob("**/[!_]*.yaml"))
    if (keys := mandatory_keys(path))
    for key in keys
]


def test_mandatory_keys_are_found() -> None:
    assert {(option, key) for option, key, _ in CASES} >= {
        ("experiment=finetune", "weights"),
        ("experiment=finetune", "data.train.degraded"),
        ("data=prepared", "data.train.folder"),
        ("mode=restore", "input"),
        ("mode=export", "output"),
    }


@pytest.mark.parametrize(("option", "key", "keys"), CASES)
def test_missing_mandatory_value_is_reported_with_its_key(
    cli: Cli, tmp_path: Path, option: str, key: str, keys: tuple[Any, ...]
) -> None:
    others = [f"{other}={VALUES.get(other, 'x')}" for other in keys if other != key]
    message = error_message(cli(option, *others, status=1))
    assert message == f"Error: {key} is not set: add {key}=VALUE to the command\n"
    assert not list(tmp_path.rglob("*.ckpt"))
