"""Stopping a training by a signal: save first, on all devices at the same step."""

import signal
import threading
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer


class StopOnSignal(Callback):
    """On SIGTERM or Ctrl-C, saves after the batch in hand and exits with 128 + the signal.

    The processes of a training agree on the step: whichever of them the signal reached, none is
    left waiting for the others. A second signal is not held back.

    Args:
        checkpoint: where to save.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.received = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals; Lightning gives them back when the training ends.

        Lightning's own handler communicates in the middle of whatever the process is doing.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._receive)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop, if a signal has reached any of the processes.

        The last batch of an epoch is followed by its validation first.

        Raises:
            SystemExit: saved.
        """
        stop = trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)
        if not stop or trainer.is_last_batch:
            return
        trainer.save_checkpoint(self.checkpoint)
        if not trainer.is_global_zero:
            raise SystemExit(0)  # the first process speaks for all
        number = signal.Signals(self.received or signal.SIGTERM)
        print(f"Stopped by {number.name} and saved {self.checkpoint}: add resume=auto to go on")
        raise SystemExit(128 + number)

    def _receive(self, number: int, _: Any) -> None:
        self.received = number
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
