"""Safe reading of ``torch.save`` files: no code execution, bounded memory."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mprnet_lit.utils.atomic import require_regular_file


def read_tensors(path: Path) -> Any:
    """Read a file of tensors and plain values.

    Raises:
        UserError: ``path`` is a pipe or a device.
        Exception: the file is missing, damaged, or contains code. The readers raise many types.
    """
    require_regular_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # torch.save does not compress
            if sum(item.file_size for item in archive.infolist()) > path.stat().st_size:
                raise ValueError("the content of the archive is larger than the file")
    return torch.load(path, map_location="cpu", weights_only=True)


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is dense and all of its elements are in its storage."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )
