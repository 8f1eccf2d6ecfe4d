"""The Darmstadt Noise Dataset (Ploetz and Roth, CVPR 2017): its files and its submissions."""

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

from mprnet_lit.utils.atomic import require_regular, write_whole
from mprnet_lit.utils.errors import UserError

EVAL_VERSION = "1.0"
_MOST_NUMBERS = 2**28
"""In an array. DND's photographs have up to 3 x 20 million."""


@dataclass(frozen=True)
class DndImage:
    """One noisy photograph and the boxes in it that are scored.

    Attributes:
        name: its file's, without the suffix: 0001 to 0050.
        path: a MATLAB file of version 7.3 with ``InoisySRGB``.
        boxes: first row, first column, last row, last column, from 1, as MATLAB counts.
    """

    name: str
    path: Path
    boxes: tuple[tuple[int, int, int, int], ...]

    def read(self) -> list[NDArray[np.float32]]:
        """Return the boxes' crops, (H, W, 3) RGB in [0, 1].

        Raises:
            UserError: the file can't be read.
        """
        with _opened(self.path) as file:
            noisy = _numbers(file, self.path, "InoisySRGB")
            if noisy.ndim != 3 or noisy.shape[0] != 3:
                raise ValueError(f"InoisySRGB has the shape {noisy.shape}")
            image = np.asarray(noisy, dtype=np.float32).T
        return [
            image[top - 1 : bottom, left - 1 : right] for top, left, bottom, right in self.boxes
        ]


def find_dnd_images(info_file: Path, folder: Path) -> list[DndImage]:
    """Return the images that ``info.mat`` lists boxes for.

    Raises:
        UserError: a file is missing, or is not as it should be.
    """
    images = []
    with _opened(info_file) as file:
        references = _numbers(file, info_file, "info/boundingboxes")
        for number, reference in enumerate(np.asarray(references).ravel(), 1):
            boxes = np.asarray(_numbers(file, info_file, reference)).T.astype(int)
            if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.min(initial=1) < 1:
                raise ValueError(f"the boxes of image {number} are no four sides each")
            path = folder / f"{number:04d}.mat"
            if not path.is_file():
                raise UserError(f"there is no file {path}: unpack the whole set")
            images.append(DndImage(path.stem, path, tuple(map(tuple, boxes.tolist()))))
    return images


def write_submission(path: Path, crops: Sequence[NDArray[np.float32]]) -> None:
    """Write one image's restored crops, (H, W, 3) RGB in [0, 1], as the server takes them.

    Variables: ``Idenoised`` (a cell array of the crops), ``israw`` (false), ``eval_version``.
    """
    cells = np.empty(len(crops), dtype=object)
    for index, crop in enumerate(crops):
        cells[index] = crop.astype(np.float32)
    content = BytesIO()
    scipy.io.savemat(content, {"Idenoised": cells, "israw": False, "eval_version": EVAL_VERSION})
    write_whole(path, content.getvalue())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file; whatever goes wrong with it inside the ``with`` becomes one sentence."""
    try:
        require_regular(path)
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in its decoder
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} can't be read as DND's MATLAB file of version 7.3 ({reason}): "
            "download it again"
        ) from error


def _numbers(file: Any, path: Path, name: Any) -> Any:
    """Return the array of a name or reference, which must lie in the file itself."""
    found = file if isinstance(name, str) else file[name]
    own = True
    for part in name.split("/") if isinstance(name, str) else ():
        try:
            own = found.id.links.get_info(part.encode()).type == h5py.h5l.TYPE_HARD
        except KeyError as error:
            raise UserError(f"{path} holds no variable {name}: download it again") from error
        if not own:  # it may lead anywhere
            break
        found = found[part]
    if not own or found.external or found.is_virtual:
        raise UserError(f"{path} keeps {name} in another file: download it again")
    if found.size > _MOST_NUMBERS:
        raise ValueError(f"{found.size} numbers are too many")
    return found
