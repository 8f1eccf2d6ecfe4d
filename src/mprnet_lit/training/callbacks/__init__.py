"""Lightning callbacks, one per module."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from mprnet_lit.training.callbacks.monitor import Monitor
    from mprnet_lit.training.callbacks.panels import Panels
    from mprnet_lit.training.callbacks.progress import Progress
    from mprnet_lit.training.callbacks.summary import Summary

__all__ = ["Monitor", "Panels", "Progress", "Summary"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "monitor": ["Monitor"],
        "panels": ["Panels"],
        "progress": ["Progress"],
        "summary": ["Summary"],
    },
)
