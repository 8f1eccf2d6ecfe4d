"""The order of the tests in :mod:`tests.order`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.order import SLOW, start_with_slow_files

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_each_worker_begins_with_slow_files(workers: int) -> None:
    files = [*(f"tests/test_{i}.py" for i in range(40)), *SLOW]
    tests: list[Any] = [SimpleNamespace(nodeid=f"{f}::test_{n}") for f in files for n in range(3)]
    ordered = start_with_slow_files(tests, workers)
    assert sorted(test.nodeid for test in ordered) == sorted(test.nodeid for test in tests)
    for worker in range(workers):
        first = ordered[worker * len(tests) // workers]
        assert first.nodeid == f"{SLOW[worker]}::test_0"


def test_slow_files_exist() -> None:
    assert all((ROOT / file).is_file() for file in SLOW)
