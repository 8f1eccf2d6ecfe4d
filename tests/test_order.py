"""The order of the tests in :mod:`tests.order`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.order import SLOW, slow_files_first

ROOT = Path(__file__).parent.parent


def test_slow_files_are_first_and_tests_keep_their_order() -> None:
    files = [*(f"tests/test_{i}.py" for i in range(40)), *reversed(SLOW)]
    tests: list[Any] = [SimpleNamespace(nodeid=f"{f}::test_{n}") for f in files for n in range(3)]
    ordered = [test.nodeid for test in slow_files_first(tests)]
    others = [test.nodeid for test in tests if test.nodeid.partition("::")[0] not in SLOW]
    assert ordered == [*(f"{file}::test_{n}" for file in SLOW for n in range(3)), *others]


def test_slow_files_exist() -> None:
    assert all((ROOT / file).is_file() for file in SLOW)
