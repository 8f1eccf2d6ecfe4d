"""The published test sets in the layouts in which they are distributed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.io
from numpy.typing import NDArray

from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.sources import PairedFolders
from mprnet_lit.images.formats import IMAGE_SUFFIXES
from mprnet_lit.images.reading import Pixels, read_image
from mprnet_lit.utils.atomic import require_regular
from mprnet_lit.utils.errors import UserError

Layout = Mapping[str, str]
"""A way in which a set may lie in its folder, by its keys: see ``docs/evaluation.md``."""


_MOST_NUMBERS = 2**32
"""In an array of a MATLAB file, in which no more bytes fit up to version 7."""
_NUMBERS = {
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("single", "double", "logical"),
}


class EvaluationImage(Protocol):
    """A degraded image and its target."""

    @property
    def name(self) -> str:
        """What the table of scores calls it."""

    def read(self) -> tuple[Pixels, Pixels]:
        """Return both, (H, W, 3) RGB of one size, each in its own depth."""


@dataclass(frozen=True)
class ImageFiles:
    """Two image files."""

    name: str
    degraded: Path
    target: Path

    def read(self) -> tuple[Pixels, Pixels]:
        """Return both, (H, W, 3) RGB.

        Raises:
            UserError: one can't be read, or their sizes differ.
        """
        degraded, target = read_image(self.degraded), read_image(self.target)
        if degraded.shape != target.shape:
            sizes = [f"{i.shape[1]}x{i.shape[0]}" for i in (degraded, target)]
            raise UserError(
                f"{self.degraded} is {sizes[0]}, but its target {self.target} is {sizes[1]}: "
                "replace or remove them"
            )
        return degraded, target


@dataclass(frozen=True)
class Block:
    """Two blocks of arrays that lie in memory."""

    name: str
    degraded: NDArray[np.uint8]
    target: NDArray[np.uint8]

    def read(self) -> tuple[Pixels, Pixels]:
        """Return both, (H, W, 3) RGB."""
        return self.degraded, self.target


def find_test_images(
    name: str, root: Path, layouts: Sequence[Layout], on_error: OnError = "raise"
) -> list[EvaluationImage]:
    """Find a test set's images by the first layout that is there.

    Args:
        name: of the set, for messages.
        root: its folder.
        layouts: in which it may lie there.
        on_error: ``skip``: leave out files that can't be paired (where globs pair them).

    Raises:
        UserError: none is there, or the files are not as they should be.
    """
    layout = choose_layout(name, root, layouts)
    if "list" in layout:
        return _listed(root, layout["list"])
    if "noisy" in layout:
        return _blocks(root / layout["noisy"], root / layout["clean"])
    if "targets" in layout:
        return _same_names(root, layout["input"], root / layout["targets"])
    if not {"input", "target"} <= layout.keys():
        raise UserError(f"benchmark.layouts: {dict(layout)} must have 'input' and 'target'")
    return find_image_files(root, root, layout["input"], layout["target"], on_error)


def find_image_files(
    degraded: str | Path,
    target: str | Path,
    degraded_pattern: str,
    target_pattern: str,
    on_error: OnError,
) -> list[EvaluationImage]:
    """Pair the files of two folders, as ``data=paired`` does."""
    pairs = PairedFolders(degraded, target, degraded_pattern, target_pattern).samples(on_error)
    return [ImageFiles(p.name, p.degraded, p.target) for p in pairs if p.degraded is not None]


def choose_layout(name: str, root: Path, layouts: Sequence[Layout]) -> Layout:
    """Return the first layout that is there.

    Raises:
        UserError: none is.
    """
    for layout in layouts:
        # Of every layout the first value tells whether it is there.
        if next(iter(_matches(root, next(iter(layout.values())))), None) is not None:
            return layout
    wanted = ", or ".join(" and ".join(layout.values()) for layout in layouts)
    raise UserError(
        f"the folder {root} holds no test set {name} ({wanted}): set benchmark.root to its folder"
    )


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """Return a variable of a MATLAB file of up to version 7.

    Raises:
        UserError: the file can't be read, or does not hold it.
    """
    try:
        require_regular(path)
        if path.exists():
            _check_size(path, variable)
        return np.asarray(scipy.io.loadmat(path, variable_names=[variable])[variable])
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check benchmark.root") from error
    except KeyError as error:
        raise UserError(f"{path} holds no variable {variable}: download it again") from error
    except Exception as error:  # a damaged file can fail anywhere in its decoder
        raise UserError(f"{path} can't be read ({error}): download it again") from error


def _check_size(path: Path, variable: str) -> None:
    """Refuse what only absurd sizes, or other things than numbers, would make of a file."""
    for name, shape, kind in scipy.io.whosmat(path):
        if name == variable and (kind not in _NUMBERS or prod(shape) > _MOST_NUMBERS):
            raise UserError(
                f"{path} says that {variable} is {kind} of {'x'.join(map(str, shape))}, which is "
                "no set of images, or a trap: download it again"
            )


def _matches(root: Path, pattern: str) -> list[Path]:
    """Return what a glob below a folder matches: a file itself, or images without their suffix."""
    exact = root / pattern
    if exact.exists():
        return [exact]
    try:
        found = list(root.glob(f"{pattern}.*"))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"benchmark.layouts: '{pattern}' is no pattern ({error})") from error
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _listed(root: Path, file: str) -> list[EvaluationImage]:
    """Read a list of lines "TARGET INPUT", as RealBlur's."""
    images: list[EvaluationImage] = []
    try:
        require_regular(root / file)
        lines = (root / file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{root / file} can't be read ({error}): download it again") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2:
            raise UserError(f"{root / file}, line {number}: '{line}' must be 'TARGET INPUT'")
        if any(Path(word).is_absolute() or ".." in Path(word).parts for word in words[:2]):
            raise UserError(
                f"{root / file}, line {number}: '{line}' leads out of {root}: download it again"
            )
        target, degraded = (root / word for word in words[:2])
        for path in (degraded, target):
            if not path.is_file():
                raise UserError(
                    f"{root / file}, line {number}: there is no image {path}: unpack the whole set "
                    "into benchmark.root"
                )
        images.append(ImageFiles(_name(degraded, root), degraded, target))
    if not images:
        raise UserError(f"{root / file} is empty: download it again")
    return images


def _same_names(root: Path, pattern: str, targets: Path) -> list[EvaluationImage]:
    """Pair each image with the file of its name in one folder that may hold more, as HIDE's GT."""
    images: list[EvaluationImage] = []
    for degraded in _matches(root, pattern):
        target = targets / degraded.name
        if not target.is_file():
            raise UserError(f"{degraded} has no target {target}: unpack the whole set")
        images.append(ImageFiles(_name(degraded, root), degraded, target))
    return images


def _blocks(noisy_file: Path, clean_file: Path) -> list[EvaluationImage]:
    """Return the blocks of two arrays (images, blocks, H, W, 3), as SIDD's."""
    noisy, clean = (read_mat(path, path.stem) for path in (noisy_file, clean_file))
    for path, array in ((noisy_file, noisy), (clean_file, clean)):
        if array.ndim != 5 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise UserError(
                f"{path} holds {array.dtype} of shape {array.shape}, not uint8 of (40, 32, 256, "
                "256, 3): download it again"
            )
    if noisy.shape != clean.shape:
        raise UserError(
            f"{noisy_file} and {clean_file} differ in shape ({noisy.shape}, {clean.shape}): "
            "download them again"
        )
    return [
        Block(f"{image + 1:02d}_{block + 1:02d}", noisy[image, block], clean[image, block])
        for image, block in np.ndindex(noisy.shape[:2])
    ]
