"""Faster import of torchmetrics, and thus of Lightning.

torchmetrics imports ``scipy.signal`` for an audio metric (SRMR) that this package does not use. The
import takes a fifth of the CPU time of the start of a training.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

_SIGNAL = "scipy.signal"


class _Finder(MetaPathFinder, Loader):
    """Import hook that hides ``scipy.signal`` from torchmetrics during the import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchmetrics" or _SIGNAL in sys.modules:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None:
            self.loader, spec.loader = cast(Loader, spec.loader), self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        hidden = ModuleType(_SIGNAL)
        hidden.__dict__["hamming"] = None  # torchmetrics adds this function if it is missing

        def remove() -> None:
            if sys.modules.get(_SIGNAL) is hidden:
                del sys.modules[_SIGNAL]

        def attribute(name: str) -> Any:
            remove()
            return getattr(import_module(_SIGNAL), name)

        hidden.__dict__["__getattr__"] = attribute
        sys.modules[_SIGNAL] = hidden
        try:
            self.loader.exec_module(module)
        finally:
            remove()


def install() -> None:
    """Change the first import of torchmetrics in this process."""
    if "torchmetrics" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
