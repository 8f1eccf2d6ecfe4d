"""Configurations of many runs are parsed once, with the values that PyYAML gives."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from mprnet_lit.runs import config_reading
from mprnet_lit.runs.config_reading import masked_settings, read_config
from mprnet_lit.utils.untrusted import NotReadableError, parse_yaml

FIRST = """\
seed: 1
paths:
  run: /runs/a
optimizer:
  lr: 0.1
  betas:
  - 0.9
logger:
  api_key: first
train:
- name: x
  size: 3
text: |
  not_a_key: 1
"""
SIMPLE = FIRST[: FIRST.index("text:")]


@pytest.fixture(autouse=True)
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the texts that are parsed as a whole; no file is known."""
    texts: list[bytes] = []

    def parse(text: bytes) -> Any:
        texts.append(text)
        return parse_yaml(text)

    monkeypatch.setattr(config_reading, "parse_yaml", parse)
    monkeypatch.setattr(config_reading, "_templates", defaultdict(list))
    return texts


def read(folder: Path, text: str) -> tuple[dict[str, Any] | None, str]:
    (folder / "config.yaml").write_bytes(text.encode())
    return read_config(folder, "config.yaml")


def test_files_that_differ_in_values_are_parsed_once(tmp_path: Path, parsed: list[bytes]) -> None:
    first, _ = read(tmp_path, SIMPLE)
    assert len(parsed) == 2  # the file, and the file with a mark for each value
    second, _ = read(tmp_path, SIMPLE.replace(": 1\n", ": 2\n").replace("0.1", "1e-3"))
    third, _ = read(tmp_path, SIMPLE.replace("/runs/a", "C:\\b,lr=1").replace("first", "second"))
    assert len(parsed) == 2 and first is not None and first["logger.api_key"] == "***"
    assert second == first | {"seed": 2, "optimizer.lr": 1e-3}
    assert third == first | {"paths.run": "C:\\b,lr=1"}
    assert list(third) == list(first)
    read(tmp_path, SIMPLE.replace("0.9", "0.8"))  # the values of lists are part of the structure
    assert len(parsed) == 4
    first.clear()
    assert read(tmp_path, SIMPLE)[0] == third | {"paths.run": "/runs/a"}


@pytest.mark.parametrize("first", [FIRST, SIMPLE])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 1", "seed: '1'"),
        ("seed: 1", "seed: 1e3"),
        ("seed: 1", "seed: 0x1f"),
        ("seed: 1", "seed: 010"),
        ("seed: 1", "seed: ~"),
        ("seed: 1", "seed: -"),
        ("seed: 1", "seed: a:"),
        ("seed: 1", "seed: 0b_"),
        ("seed: 1", "seed: a # b"),
        ("seed: 1", "seed: [1"),
        ("seed: 1", "seed: &a 1"),
        ("seed: 1", "seed: *a"),
        ("seed: 1", "seed: yes\r"),
        ("seed: 1", "seed: 2026-01-02"),
        ("seed: 1", "seed: 1:30"),
        ("seed: 1", f"seed: {10**400}"),
        ("seed: 1", "other: 1"),
        ("seed: 1", "text: 1"),
        ("seed: 1", " seed: 1"),
        ("seed: 1", "..."),
        ("  lr: 0.1", " lr: 0.1"),
        ("  lr: 0.1", "   lr: 0.1"),
        ("  lr: 0.1", "  run: 0.1"),
        ("/runs/a", "b,c=d@e%f~g:h\\i"),
        ("  size: 3", "  name: 3"),
        ("  size: 3", "  size: [3]"),
        ("not_a_key: 1", "not_a_key: 2"),
        ("not_a_key: 1", "not_a_key : 2"),
        ("first", "'first'"),
        ("first", "null"),
    ],
)
def test_values_are_those_of_the_whole_file(tmp_path: Path, first: str, old: str, new: str) -> None:
    read(tmp_path, first)
    text = first.replace(old, new)
    found, damage = read(tmp_path, text)
    try:
        expected = masked_settings(parse_yaml(text.encode()))
    except NotReadableError as error:
        assert (found, damage) == (None, str(error))
    else:
        assert (found, damage) == (expected, "") and found is not None
        assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a: 1\n", "word\n"])
def test_file_without_a_mapping_has_no_settings(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == read(tmp_path, text) == (None, "")


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "a: {\n  b: 1\n}\n", "a: '\n  b: 1\n'\n", "a:\n  b: 1\n  c\n  d: 2\n"]
)
def test_lines_that_are_not_keys_are_not_filled_in(tmp_path: Path, text: str) -> None:
    for number in (1, 3):
        changed = text.replace(": 1", f": {number}").encode()
        expected: tuple[dict[str, Any] | None, str]
        try:
            expected = masked_settings(parse_yaml(changed)), ""
        except NotReadableError as error:
            expected = None, str(error)
        assert read(tmp_path, changed.decode()) == expected


def test_number_of_kept_files_is_bounded(tmp_path: Path) -> None:
    for count in range(200):
        read(tmp_path, "".join(f"k{k}: 1\n" for k in range(count)))
    for name in "abcdefgh":
        read(tmp_path, f"{name}: 1\n")
    kept = config_reading._templates.values()
    assert len(kept) <= 64 and max(map(len, kept)) == 4
