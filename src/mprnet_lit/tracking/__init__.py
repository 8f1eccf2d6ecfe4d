"""What a run shows and leaves behind: progress, panels of images, summary, provenance."""

from mprnet_lit.tracking.panels import Panels
from mprnet_lit.tracking.progress import Progress
from mprnet_lit.tracking.summary import Summary

__all__ = ["Panels", "Progress", "Summary"]
