"""References of SECURITY.md to existing tests in each row about files."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_row_names_an_existing_test() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    tables = text[text.index("## Untrusted files") : text.index("## Network")]
    rows = [line for line in tables.splitlines() if line.startswith("| **")]
    assert len(rows) == 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            tree = ast.parse((ROOT / file).read_text())
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert test in there, f"{file}::{test}"
