"""Darmstadt Noise Dataset (DND; Plötz and Roth, CVPR 2017): reading files, writing submissions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from mprnet_lit.utils.atomic import require_regular_file, write_atomic
from mprnet_lit.utils.errors import UserError

EVAL_VERSION = "1.0"
_MAX_ELEMENTS = 2**28
"""Maximum number of elements of an array. Photographs of DND have at most 3 x 20 million."""


@dataclass(frozen=True)
class DndImage:
    """Noisy photograph and its scored crops.

    Attributes:
        name: name of the file without the suffix, 0001 to 0050.
        path: MATLAB file (version 7.3) with the variable ``InoisySRGB``.
        boxes: first row, first column, last row and last column of each crop, counted from 1.
    """

    name: str
    path: Path
    boxes: tuple[tuple[int, int, int, int], ...]

    def read(self) -> list[NDArray[np.float32]]:
        """Return the crops, (H, W, 3) RGB float32 in [0, 1] each."""
        with _opened(self.path) as file:
            noisy = _numbers(file, self.path, "InoisySRGB")
            if noisy.ndim != 3 or noisy.shape[0] != 3:
                raise ValueError(f"InoisySRGB has the shape {noisy.shape}")
            image = np.asarray(noisy, dtype=np.float32).T
        return [
            image[top - 1 : bottom, left - 1 : right] for top, left, bottom, right in self.boxes
        ]


def find_dnd_images(info_file: Path, folder: Path) -> list[DndImage]:
    """Return the images that ``info_file`` lists, with their files in ``folder``."""
    images = []
    with _opened(info_file) as file:
        references = _numbers(file, info_file, "info/boundingboxes")
        for number, reference in enumerate(np.asarray(references).ravel(), 1):
            boxes = np.asarray(_numbers(file, info_file, reference)).T.astype(int)
            if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.min(initial=1) < 1:
                raise ValueError(f"each box of image {number} must have four positive coordinates")
            path = folder / f"{number:04d}.mat"
            if not path.is_file():
                raise UserError(f"there is no file {path}: unpack the complete data set")
            images.append(DndImage(path.stem, path, tuple(map(tuple, boxes.tolist()))))
    return images


def write_submission(path: Path, crops: Sequence[NDArray[np.float32]]) -> None:
    """Write the restored crops of one image, (H, W, 3) RGB in [0, 1] each, for the DND server.

    The MATLAB file has the variables ``Idenoised`` (cell array of the crops), ``israw`` (false)
    and ``eval_version``.
    """
    cells = np.empty(len(crops), dtype=object)
    for index, crop in enumerate(crops):
        cells[index] = crop.astype(np.float32)
    content = BytesIO()
    scipy.io.savemat(content, {"Idenoised": cells, "israw": False, "eval_version": EVAL_VERSION})
    write_atomic(path, content.getvalue())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a MATLAB file; any error inside the ``with`` block becomes a UserError."""
    try:
        require_regular_file(path)
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # the decoder raises many types for damaged files
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} can't be read as a MATLAB 7.3 file of DND ({reason}): download it again"
        ) from error


def _numbers(file: Any, path: Path, name: Any) -> Any:
    """Return the array of a name or reference, which must be stored in the file itself."""
    found = file if isinstance(name, str) else file[name]
    is_link = False  # a link may point to any file
    for part in name.split("/") if isinstance(name, str) else ():
        try:
            is_link = found.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD
        except KeyError as error:
            raise UserError(f"{path} has no variable {name}: download it again") from error
        if is_link:
            break
        found = found[part]
    if is_link or found.external or found.is_virtual:
        raise UserError(f"{path} stores {name} in another file: download it again")
    if found.size > _MAX_ELEMENTS:
        raise ValueError(f"{found.size} elements are too many")
    return found
