"""Published test sets in the folder layouts of their distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from mprnet_lit.data.pairing import OnError
from mprnet_lit.data.sources import PairedFolders
from mprnet_lit.images.formats import IMAGE_SUFFIXES
from mprnet_lit.images.reading import Pixels, read_image
from mprnet_lit.utils.atomic import require_regular_file
from mprnet_lit.utils.errors import UserError

Layout = Mapping[str, str]
"""Folder layout of a test set; ``docs/evaluation.md`` describes the keys."""

_MAX_ELEMENTS = 2**32
"""Maximum number of elements of an array: the maximum size of a MATLAB 7 file in bytes."""
_NUMERIC_TYPES = {
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("single", "double", "logical"),
}


@dataclass(frozen=True)
class ImageFiles:
    """Image pair in two files."""

    name: str
    degraded: Path
    target: Path

    def read(self) -> tuple[Pixels, Pixels]:
        """Return the degraded image and the target, (H, W, 3) RGB uint8 or uint16 each."""
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
    """Image pair in memory, (H, W, 3) RGB each."""

    name: str
    degraded: NDArray[np.uint8]
    target: NDArray[np.uint8]

    def read(self) -> tuple[Pixels, Pixels]:
        """Return the degraded image and the target, (H, W, 3) RGB each."""
        return self.degraded, self.target


EvaluationImage = ImageFiles | Block
"""Degraded image with its target."""


def find_test_images(
    name: str, root: Path, layouts: Sequence[Layout], on_error: OnError = "raise"
) -> list[EvaluationImage]:
    """Find the images of a test set with the first layout that matches the folder.

    ``on_error="skip"`` skips files without a partner (layouts with globs only).
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
    folders = PairedFolders(root, root, layout["input"], layout["target"])
    return find_image_files(folders, on_error)


def find_image_files(folders: PairedFolders, on_error: OnError) -> list[EvaluationImage]:
    """Pair the images of two folders; see :func:`mprnet_lit.data.pairing.find_pairs`."""
    pairs = folders.samples(on_error, "full")
    return [ImageFiles(p.name, p.degraded, p.target) for p in pairs if p.degraded is not None]


def choose_layout(name: str, root: Path, layouts: Sequence[Layout]) -> Layout:
    """Return the first layout whose first pattern matches a file in the folder."""
    for layout in layouts:
        if next(iter(_matches(root, next(iter(layout.values())))), None) is not None:
            return layout
    wanted = ", or ".join(" and ".join(layout.values()) for layout in layouts)
    raise UserError(
        f"the folder {root} does not contain the test set {name} ({wanted}): set benchmark.root to "
        "its folder"
    )


def read_mat(path: Path, variable: str) -> NDArray[Any]:
    """Read a variable of a MATLAB file (up to version 7)."""
    try:
        require_regular_file(path)
        if path.exists():
            _check_declaration(path, variable)
        return np.asarray(scipy.io.loadmat(path, variable_names=[variable])[variable])
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check benchmark.root") from error
    except KeyError as error:
        raise UserError(f"{path} has no variable {variable}: download it again") from error
    except Exception as error:  # the decoder raises many types for damaged files
        raise UserError(f"{path} can't be read ({error}): download it again") from error


def _check_declaration(path: Path, variable: str) -> None:
    """Check the type and the size of a variable before it is read."""
    for name, shape, kind in scipy.io.whosmat(path):
        if name == variable and (kind not in _NUMERIC_TYPES or prod(shape) > _MAX_ELEMENTS):
            raise UserError(
                f"{path} declares {variable} as {kind} of {'x'.join(map(str, shape))}, which can't "
                "be a set of images: download it again"
            )


def _matches(root: Path, pattern: str) -> list[Path]:
    """Return the matches of a pattern below a folder: an exact path, or a glob without suffix."""
    exact = root / pattern
    if exact.exists():
        return [exact]
    try:
        found = list(root.glob(f"{pattern}.*"))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"benchmark.layouts: '{pattern}' is not a valid glob ({error})") from error
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)


def _image_files(degraded: Path, target: Path, root: Path) -> ImageFiles:
    return ImageFiles(degraded.relative_to(root).with_suffix("").as_posix(), degraded, target)


def _listed(root: Path, file: str) -> list[EvaluationImage]:
    """Return the images of a list file with lines "TARGET INPUT" (RealBlur)."""
    path = root / file
    try:
        require_regular_file(path)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read ({error}): download it again") from error
    images: list[EvaluationImage] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}:"
        names = [Path(word) for word in line.split()[:2]]
        if len(names) < 2:
            raise UserError(f"{where} '{line}' must be 'TARGET INPUT'")
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise UserError(f"{where} '{line}' is outside of {root}: download it again")
        target, degraded = (root / name for name in names)
        for image in (degraded, target):
            if not image.is_file():
                raise UserError(
                    f"{where} there is no image {image}: unpack the complete data set into "
                    "benchmark.root"
                )
        images.append(_image_files(degraded, target, root))
    if not images:
        raise UserError(f"{path} is empty: download it again")
    return images


def _same_names(root: Path, pattern: str, targets: Path) -> list[EvaluationImage]:
    """Pair each image with the file of the same name in the folder of the targets (HIDE)."""
    images: list[EvaluationImage] = []
    for degraded in _matches(root, pattern):
        target = targets / degraded.name
        if not target.is_file():
            raise UserError(f"{degraded} has no target {target}: unpack the complete data set")
        images.append(_image_files(degraded, target, root))
    return images


def _blocks(noisy_file: Path, clean_file: Path) -> list[EvaluationImage]:
    """Return the blocks of two MATLAB arrays (images, blocks, H, W, 3) uint8 (SIDD)."""
    noisy, clean = (read_mat(path, path.stem) for path in (noisy_file, clean_file))
    for path, array in ((noisy_file, noisy), (clean_file, clean)):
        if array.ndim != 5 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise UserError(
                f"{path} has {array.dtype} of shape {array.shape}, not uint8 of shape "
                "(40, 32, 256, 256, 3): download it again"
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
