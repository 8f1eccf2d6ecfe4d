"""Module names of release 0.1 import the new modules, with a warning."""

import importlib
import subprocess
import sys
from typing import Any

import pytest

from mprnet_lit.utils.deprecated import MOVED, current_name


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


def test_old_import_statements_work_in_a_new_process() -> None:
    code = (
        "from mprnet_lit.losses import MultiStageLoss\n"
        "from mprnet_lit.data.images import read_image\n"
        "import mprnet_lit.tracking.summary\n"
        "from mprnet_lit import tracking, schedule\n"
        "print(MultiStageLoss.__module__, tracking.Summary.__module__, schedule.WarmupCosine)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(
        "mprnet_lit.training.losses.multi_stage mprnet_lit.training.callbacks.summary"
    )
    assert "mprnet_lit.losses has moved to mprnet_lit.training.losses" in done.stderr


def test_current_name_of_an_old_class() -> None:
    old = "mprnet_lit.module.RestorationModule"
    assert current_name(old) == "mprnet_lit.training.module.RestorationModule"
    assert current_name("mprnet_lit.data.Photos") == "mprnet_lit.data.Photos"
    assert current_name("torch.optim.Adam") == "torch.optim.Adam"
