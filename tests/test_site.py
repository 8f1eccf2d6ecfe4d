"""Documentation site: builds without warnings, and its reference covers all of conf/."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from mprnet_lit.config.groups import modes, package
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.config.schema import KEYS
from tests.config.test_config import compose

ROOT = Path(__file__).parents[1]
TYPES = {
    Any: "any", bool: "bool", int: "int", float: "float", str: "str", list[str]: "list[str]",
    list[Any]: "list[any]", dict[str, Any]: "dict[str, any]", str | None: r"str \| null",
    bool | str: r"bool \| str", int | None: r"int \| null", int | str: r"int \| str",
    int | float: r"int \| float",
    int | float | None: r"int \| float \| null", int | str | None: r"int \| str \| null",
}  # fmt: skip
"""Mapping from annotations to types in the reference."""


def test_site_builds_and_requests_no_other_server(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r'<(script|link|img)[^>]*\s(src|href)="(https?:)?//', text), page
    photo = (tmp_path / "tutorials" / "photo.html").read_text()
    assert 'href="../restore.html"' in photo
    reference = (tmp_path / "reference" / "api.html").read_text()
    assert "folder of runs, or name of shipped weights" in reference, "from Restorer's docstring"


@pytest.fixture(scope="module")
def text() -> Any:
    """Configuration reference in Markdown."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks.configuration()


def test_configuration_reference_has_every_file_and_key(text: Any) -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        name = path.relative_to(ROOT / "conf").with_suffix("").as_posix()
        group, _, option = name.rpartition("/")
        group = group or "mode"
        title = f"Shared: {option[1:]}" if option.startswith("_") else f"### {group}={option}"
        section = text.partition(f"\n## {group}\n")[2].partition("\n## ")[0]
        section = section.partition(f"{title}\n")[2].partition("\n### ")[0]
        assert section, path
        for key in map(str, OmegaConf.load(path)):
            full = re.escape(f"{package(path)}{key}")
            assert key == "defaults" or re.search(rf"\| `{full}[.`]", section), (path, key)
    assert re.search(r"\| `trainer\.gradient_clip_val` \|  \| `1\.0` \| a number, 0 or more", text)
    assert re.search(
        r"\| `data\.holdout` \| `float` \| `0\.1` \| a number above 0 and below 1 \| ", text
    )


def parsed(default: Any) -> Any:
    """Parse a default of the reference, which shows strings without quotes."""
    try:
        return yaml.safe_load(default)
    except yaml.YAMLError:
        return default


@pytest.mark.parametrize("mode", modes())
def test_reference_has_type_and_default_of_each_composed_key(text: Any, mode: str) -> None:
    register_resolvers()
    config: Any = OmegaConf.to_container(compose(f"mode={mode}"), resolve=False)
    rows: dict[str, list[tuple[str, Any]]] = {}
    for cells in re.findall(
        r"^\| `(.+?)` \| (.*?) (?<!\\)\| `(.*?)` (?<!\\)\| ", text, re.MULTILINE
    ):
        rows.setdefault(cells[0], []).append((cells[1], parsed(cells[2])))
    checked = set()
    for key, of in KEYS.items():
        node, absent = config, object()
        for part in key.split("."):
            node = node.get(part, absent) if isinstance(node, dict) else absent
        if node is absent:
            continue
        types = {frozenset(kind.strip("`").split(r" \| ")) for kind, _ in rows[key] if kind}
        assert types == {frozenset(TYPES[of.type].split(r" \| "))}, key  # in any order
        assert node in [default for _, default in rows[key]], key
        checked.add(key)
    assert checked
