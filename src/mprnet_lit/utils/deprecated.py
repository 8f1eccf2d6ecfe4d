"""Deprecated module names of release 0.1, which will be removed in release 0.3.

Scripts and configurations (``_target_``) may still use these names. Importing an old name raises a
``DeprecationWarning`` with the name of the new module.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "checkpoints": "training.checkpoints",
    "data.benchmarks": "evaluation.test_sets",
    "data.dnd": "evaluation.dnd",
    "data.images": "images.reading",
    "data.photo": "images.photo",
    "data.video": "video.restore",
    "errors": "utils.errors",
    "export.onnx": "export.to_onnx",
    "export.quantise": "export.quantize",
    "hardware": "utils.hardware",
    "inference.memory": "inference.tile_size",
    "inference.onnx": "inference.onnx_runtime",
    "inference.padding": "models.padding",
    "losses": "training.losses",
    "metrics.color": "metrics.quality",
    "module": "training.module",
    "schedule": "training.schedule",
    "tracking": "training.callbacks",
    "tracking.monitor": "training.callbacks.monitor",
    "tracking.panels": "training.callbacks.panels",
    "tracking.progress": "training.callbacks.progress",
    "tracking.summary": "training.callbacks.summary",
    "weights.files": "weights",
}
"""New module name of each old module name, without the prefix ``mprnet_lit.``."""


def current_name(name: str) -> str:
    """Return the current dotted name of an object that may be in a module of release 0.1."""
    module, _, attribute = name.removeprefix("mprnet_lit.").rpartition(".")
    if module not in MOVED:
        return name
    return f"mprnet_lit.{MOVED[module]}.{attribute}"


class _Finder(MetaPathFinder, Loader):
    """Import hook that loads an old module name as a proxy of the new module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != "mprnet_lit" or old not in MOVED:
            return None
        return ModuleSpec(name, self, is_package=old == "tracking")

    def exec_module(self, module: ModuleType) -> None:
        new = f"mprnet_lit.{MOVED[module.__name__.partition('.')[2]]}"
        warnings.warn(
            f"{module.__name__} has moved to {new}; the old name will be removed in release 0.3",
            DeprecationWarning,
            stacklevel=2,
        )

        def forward(name: str) -> Any:
            return getattr(import_module(new), name)

        module.__dict__["__getattr__"] = forward


def install() -> None:
    """Let Python find the old module names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
