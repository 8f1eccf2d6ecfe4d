"""Checks of distributed training: same run in all processes, and no lost process."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from mprnet_lit.runs.folder import note_failure
from mprnet_lit.utils.errors import UserError


class PeerCheck(Callback):
    """Checks that all processes train the same run, and reports a lost process.

    Args:
        folder: directory of the run.
        timeout: maximum time in seconds to wait for a process that does not respond.

    Attributes:
        lost: printed message about a lost process; empty if no process was lost.
    """

    def __init__(self, folder: str | Path, timeout: float = 600) -> None:
        self.folder = Path(folder).resolve()
        self.timeout = timeout
        self.lost = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the folder and checkpoint with those of the first process.

        Raises:
            UserError: this process has another folder or checkpoint than the first process.
        """
        found = (str(self.folder), str(trainer.ckpt_path))
        folder, checkpoint = trainer.strategy.broadcast(found)
        if (folder, checkpoint) != found:
            raise UserError(
                f"process {trainer.global_rank} would train in {found[0]} from checkpoint "
                f"{found[1]}, but the first process in {folder} from {checkpoint}: all machines "
                "need the same command and a shared disk under paths.runs"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: Any) -> None:
        """Print an error message and record it in the run if another process was lost.

        The message is printed immediately, because torchrun kills this process soon after the loss
        of another machine.
        """
        if text := lost_connection(exception):
            self.lost = (
                "another process of this run ended or can't be reached; the output of that "
                "process may state the cause. Run the same command with resume=auto to resume from "
                f"the last checkpoint in {self.folder} (the message of the connection: {text})"
            )
            print(f"Error: {self.lost}", file=sys.stderr, flush=True)
            note_failure(self.folder, self.lost, replace=False)


def lost_connection(error: BaseException) -> str:
    """Return the message of an error of the connection to another process; empty for others."""
    text = str(error).partition("\n")[0].partition(". This is typically")[0]
    is_lost = isinstance(error, torch.distributed.DistError) or "/gloo/" in text
    return text if is_lost else ""
