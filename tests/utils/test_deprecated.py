"""Module names of release 0.1 import the new modules, with a warning."""

import importlib
import multiprocessing
import sys
from typing import Any

import pytest

from mprnet_lit.utils.deprecated import MOVED, current_name

OLD_IMPORTS = """
from mprnet_lit.losses import MultiStageLoss
from mprnet_lit.data.images import read_image
import mprnet_lit.tracking.summary
from mprnet_lit import tracking, schedule
"""


@pytest.mark.parametrize("old", MOVED)
def test_old_module_forwards_to_new_module(old: Any) -> None:
    sys.modules.pop(f"mprnet_lit.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"moved to mprnet_lit.{MOVED[old]};"):
        module = importlib.import_module(f"mprnet_lit.{old}")
    new = importlib.import_module(f"mprnet_lit.{MOVED[old]}")
    names = [name for name in vars(new) if not name.startswith("_")]
    assert names and all(getattr(module, name) is getattr(new, name) for name in names)
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_old_import_statements_work_before_any_other_import() -> None:
    """A fork of the test process imports the package anew, but keeps torch and Lightning."""

    def run() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mprnet_lit"]:
            del sys.modules[name]
        scope: dict[str, Any] = {}
        with pytest.warns(match="mprnet_lit.losses has moved to mprnet_lit.training.losses"):
            exec(OLD_IMPORTS, scope)
        modules = scope["MultiStageLoss"].__module__, scope["tracking"].Summary.__module__
        assert modules == (
            "mprnet_lit.training.losses.multi_stage", "mprnet_lit.training.callbacks.summary"
        )  # fmt: skip
        assert scope["schedule"].WarmupCosine

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_current_name_of_an_old_class() -> None:
    old = "mprnet_lit.module.RestorationModule"
    assert current_name(old) == "mprnet_lit.training.module.RestorationModule"
    assert current_name("mprnet_lit.data.Photos") == "mprnet_lit.data.Photos"
    assert current_name("torch.optim.Adam") == "torch.optim.Adam"
