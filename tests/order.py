"""Order of the tests, which keeps all workers of pytest-xdist busy until the end.

``--dist loadfile`` runs each file in one worker, which sets up its fixtures once, and starts the
files in the order of the tests.
"""

from collections.abc import Iterable

import pytest

SLOW = (
    "tests/cli/test_train.py",
    "tests/test_documentation.py",
    "tests/sweeps/test_optuna.py",
    "tests/sweeps/test_launchers.py",
    "tests/cli/test_prepare_shards.py",
    "tests/config/test_values.py",
    "tests/training/test_resume.py",
    "tests/training/test_peers.py",
    "tests/config/test_config.py",
    "tests/training/test_sharding.py",
    "tests/cli/test_export.py",
    "tests/training/test_fit.py",
    "tests/training/test_loggers.py",
    "tests/training/test_faults.py",
    "tests/test_old_artifacts.py",
    "tests/cli/test_evaluate.py",
    "tests/test_odd_machines.py",
)
"""The files that take longest, the longest first."""


def slow_files_first(tests: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return the tests of the slow files, then the other tests in their order."""
    places = {file: place for place, file in enumerate(SLOW)}
    return sorted(tests, key=lambda test: places.get(test.nodeid.partition("::")[0], len(SLOW)))
