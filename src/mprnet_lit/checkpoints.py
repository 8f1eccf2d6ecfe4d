"""Writing checkpoints whole or not at all, and reading them without running code."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from mprnet_lit.errors import UserError
from mprnet_lit.files import write_whole
from mprnet_lit.weights.tensors import read_tensors


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes next to the destination first, then renames: a reader never sees half a file.

    Attributes:
        written: the files.
    """

    def __init__(self) -> None:
        self.written: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint.

        Raises:
            UserError: it can't be written, for want of space, say; an earlier one stays as it was.
        """
        content = BytesIO()  # first, as torch's own writer hides why writing failed
        torch.save(checkpoint, content)
        write_whole(
            Path(path),
            content.getbuffer(),
            "the checkpoint",
            "free some space or set paths.runs to another disk, then add resume=auto",
        )
        self.written.add(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint; only tensors and plain values, so that no code runs.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of ours.
    """
    try:
        checkpoint: Any = read_tensors(path)
        checkpoint["state_dict"], checkpoint["mprnet_lit"]["size"], checkpoint["loops"]
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: check the path in resume") from error
    except UserError:
        raise
    except Exception as error:  # torch.load fails in as many ways as a file can be wrong
        raise UserError(
            f"{path} is not a training checkpoint of mprnet_lit, or it is damaged; "
            "to start from other weights use weights=PATH"
        ) from error
    return dict(checkpoint)
