"""The kinds of images that a Restorer takes, and the way back to each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mprnet_lit.images.reading import read_image
from mprnet_lit.utils.errors import UserError

_PEAKS = {torch.uint8: 255, torch.uint16: 65535}
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_TYPES = "uint8, uint16 or floating point in [0, 1]"
_MOST_OUTSIDE = 4.0
"""Noise leaves [0, 1] by less; an image of 0 to 255 goes far beyond."""
_MODES = {"1": "L", "P": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}
"""Pillow's modes that are converted first, and what to; the others below are kept."""
_KEPT_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")
_ALPHA_MODES = {"L": "LA", "RGB": "RGBA"}


@dataclass(frozen=True)
class Batch:
    """An image of any kind as what a network takes.

    Attributes:
        colors: (B, 3, H, W) float32 in [0, 1]; gray is repeated.
        like: turns a restored (B, 3, H, W), which it may change, into the kind that was given.
    """

    colors: Tensor
    like: Callable[[Tensor], Any]


def to_batch(image: Any) -> Batch:
    """Turn an image of any kind into a batch.

    Args:
        image: file name of an image, or a PIL image, an array or a tensor, as
            :meth:`Restorer.__call__` takes them.

    Raises:
        UserError: the kind, the type, the shape or the range is another; or the file cannot be
            read.
    """
    if isinstance(image, str | Path):
        image = read_image(Path(image))
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    hint = ": pass its images one by one" if isinstance(image, list | tuple) else ""
    raise UserError(
        f"image must be a file name, a PIL image, a NumPy array or a tensor, not "
        f"{type(image).__name__}{hint}"
    )


def _from_pillow(image: Image.Image) -> Batch:
    mode = _MODES.get(image.mode, image.mode)
    if mode not in _KEPT_MODES:
        whole = image.mode.startswith("I")
        hint = "np.asarray(image).astype('uint16')" if whole else "image.convert('RGB')"
        raise UserError(
            f"image has Pillow's mode {image.mode}, which is not supported: pass {hint}"
        )
    info = dict(image.info)
    if image.has_transparency_data:  # a palette's, or one color that is not shown
        mode = _ALPHA_MODES.get(mode, mode)
        info.pop("transparency", None)
    try:
        array = np.asarray(image if image.mode == mode else image.convert(mode))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"image cannot be decoded ({error}): open it again") from error
    batch = _from_array(array)

    def like(restored: Tensor) -> Image.Image:
        picture = Image.fromarray(batch.like(restored))
        picture.info = info  # with the profile and the EXIF
        return picture

    return Batch(batch.colors, like)


def _from_array(image: NDArray[Any]) -> Batch:
    shape = image.shape
    if image.ndim not in (2, 3, 4) or (image.ndim > 2 and shape[-1] > 4) or 0 in shape:
        hint = ""
        if image.ndim > 2 and shape[-3] in (1, 3, 4):
            hint = ": move its channels last with np.moveaxis(image, -3, -1)"
        raise UserError(
            f"an array must be (H, W), (H, W, C) or (B, H, W, C) with C from 1 to 4, not {shape}"
            f"{hint}"
        )
    native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}") from error
    batch = _from_tensor(tensor.movedim(-1, -3) if image.ndim > 2 else tensor)

    def like(restored: Tensor) -> NDArray[Any]:
        back: Tensor = batch.like(restored)
        array = np.ascontiguousarray((back.movedim(-3, -1) if image.ndim > 2 else back).numpy())
        return array.astype(image.dtype, copy=False)

    return Batch(batch.colors, like)


def _from_tensor(image: Tensor) -> Batch:
    shape = tuple(image.shape)
    if image.dim() not in (2, 3, 4) or (image.dim() > 2 and shape[-3] > 4) or 0 in shape:
        hint = ""
        if image.dim() > 2 and shape[-1] in (1, 3, 4):
            hint = ": move its channels first with image.movedim(-1, -3)"
        raise UserError(
            f"a tensor must be (H, W), (C, H, W) or (B, C, H, W) with C from 1 to 4, not {shape}"
            f"{hint}"
        )
    if image.layout != torch.strided or image.device.type == "meta":
        raise UserError("a tensor must be dense and hold its numbers: pass image.to_dense()")
    if image.dtype not in (*_PEAKS, *_FLOATS):
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}")
    pixels = image.detach().reshape(-1, *(shape[-3:] if image.dim() > 2 else (1, *shape)))
    peak = _PEAKS.get(image.dtype)
    colors = pixels[:, : 1 if pixels.shape[1] < 3 else 3]
    colors = colors.to("cpu", torch.float32)
    if peak is None:
        _check_range(colors)
    else:
        colors.div_(peak)  # of new memory, as its type changed
    gray = colors.shape[1] == 1
    alpha = pixels[:, -1:] if pixels.shape[1] % 2 == 0 else None

    def like(restored: Tensor) -> Tensor:
        restored = (restored.mean(1, keepdim=True) if gray else restored).clamp_(0, 1)
        if peak is not None:
            restored = restored.mul_(peak).round_()
        back = restored.to(image.device, image.dtype)
        if alpha is not None:
            back = torch.cat((back, alpha), 1)
        return back.reshape(image.shape)

    return Batch(colors.expand(-1, 3, -1, -1), like)


def _check_range(colors: Tensor) -> None:
    """Raise UserError if floats are not finite, or are of another range than [0, 1]."""
    low, high = (bound.item() for bound in colors.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError("an image must be finite: it has NaN or infinite values")
    if low < -_MOST_OUTSIDE or high > _MOST_OUTSIDE:
        hint = "divide it by 255, or pass uint8" if high <= 255 and low > -50 else "scale it"
        raise UserError(
            f"a floating-point image must be in [0, 1], but has values from {low:.4g} to "
            f"{high:.4g}: {hint}"
        )
