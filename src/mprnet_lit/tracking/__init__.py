"""What a run shows and leaves behind: progress, panels, dashboards, summary, provenance."""

from typing import TYPE_CHECKING

from mprnet_lit.lazy import lazy

if TYPE_CHECKING:
    from mprnet_lit.tracking.monitor import Monitor
    from mprnet_lit.tracking.panels import Panels
    from mprnet_lit.tracking.progress import Progress
    from mprnet_lit.tracking.summary import Summary

__all__ = ["Monitor", "Panels", "Progress", "Summary"]

__getattr__ = lazy(
    __name__,
    {"Monitor": "monitor", "Panels": "panels", "Progress": "progress", "Summary": "summary"},
)
