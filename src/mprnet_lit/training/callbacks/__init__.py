"""Lightning callbacks, one per module."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from mprnet_lit.training.callbacks.checkpoint_states import CheckpointStates
    from mprnet_lit.training.callbacks.collapse_warning import CollapseWarning
    from mprnet_lit.training.callbacks.ema import EMA
    from mprnet_lit.training.callbacks.image_quality import ImageQuality
    from mprnet_lit.training.callbacks.log_run import LogRun
    from mprnet_lit.training.callbacks.monitor import Monitor
    from mprnet_lit.training.callbacks.out_of_memory import OutOfMemoryAdvice
    from mprnet_lit.training.callbacks.panels import Panels
    from mprnet_lit.training.callbacks.peer_check import PeerCheck
    from mprnet_lit.training.callbacks.progress import Progress
    from mprnet_lit.training.callbacks.skip_nonfinite import SkipNonFinite
    from mprnet_lit.training.callbacks.stop_on_signal import StopOnSignal
    from mprnet_lit.training.callbacks.summary import Summary

__all__ = [
    "EMA",
    "CheckpointStates",
    "CollapseWarning",
    "ImageQuality",
    "LogRun",
    "Monitor",
    "OutOfMemoryAdvice",
    "Panels",
    "PeerCheck",
    "Progress",
    "SkipNonFinite",
    "StopOnSignal",
    "Summary",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint_states": ["CheckpointStates"],
        "collapse_warning": ["CollapseWarning"],
        "ema": ["EMA"],
        "image_quality": ["ImageQuality"],
        "log_run": ["LogRun"],
        "monitor": ["Monitor"],
        "out_of_memory": ["OutOfMemoryAdvice"],
        "panels": ["Panels"],
        "peer_check": ["PeerCheck"],
        "progress": ["Progress"],
        "skip_nonfinite": ["SkipNonFinite"],
        "stop_on_signal": ["StopOnSignal"],
        "summary": ["Summary"],
    },
)
