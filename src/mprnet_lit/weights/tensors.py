"""Reading what ``torch.save`` wrote, without running code or taking more memory than the file."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mprnet_lit.utils.atomic import require_regular


def read_tensors(path: Path) -> Any:
    """Read tensors and plain values alone.

    Raises:
        UserError: it is a pipe or a device.
        Exception: it is missing or damaged, or has code in it; of as many kinds as there are ways.
    """
    require_regular(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # torch compresses nothing
            if sum(item.file_size for item in archive.infolist()) > path.stat().st_size:
                raise ValueError("compressed, to become larger than the file")
    return torch.load(path, map_location="cpu", weights_only=True)


def is_plain(tensor: Tensor) -> bool:
    """Tell whether every number of a tensor is stored, and not one of them for a million."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )
