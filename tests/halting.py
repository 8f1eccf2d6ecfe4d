"""Training step that waits, so that a test can signal or kill a training in a fixed step."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mprnet_lit.training.callbacks.stop_on_signal import StopOnSignal
from mprnet_lit.training.module import RestorationModule


def halting_step(step: int, folder: Path) -> Callable[..., Any]:
    """Return a ``training_step`` that waits in one step for a signal or for the file ``go``.

    Before it waits, each process creates the file ``halted`` with its number in the folder.
    """
    training_step = RestorationModule.training_step

    def halting(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == step:
            (stop,) = (c for c in self.trainer.callbacks if isinstance(c, StopOnSignal))
            (folder / f"halted{self.global_rank}").touch()
            while not stop.received and not (folder / "go").exists():
                time.sleep(0.01)
        return training_step(self, batch, batch_idx)

    return halting
