"""Order of the tests, which keeps all workers of pytest-xdist busy until the end."""

from collections.abc import Sequence

import pytest

SLOW = (
    "tests/cli/test_train.py",
    "tests/sweeps/test_launchers.py",
    "tests/sweeps/test_optuna.py",
    "tests/test_documentation.py",
    "tests/cli/test_export.py",
    "tests/training/test_sharding.py",
    "tests/training/test_peers.py",
    "tests/training/test_resume.py",
)
"""The files that take longest, the longest first."""


def start_with_slow_files(tests: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order the tests so that each worker begins with some of the slow files.

    ``--dist worksteal`` first gives each worker an equal part of the list. A worker that has no
    tests left takes some from the end of the part of another one.
    """
    files = [test.nodeid.partition("::")[0] for test in tests]
    others = [test for test, file in zip(tests, files, strict=True) if file not in SLOW]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        for slow in SLOW[worker::workers]:
            ordered += [test for test, file in zip(tests, files, strict=True) if file == slow]
        count = max((worker + 1) * len(tests) // workers - len(ordered), 0)
        ordered, others = ordered + others[:count], others[count:]
    return ordered + others
