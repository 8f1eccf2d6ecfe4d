"""Conversion between the image types that a Restorer accepts and the input of the network."""

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
"""Maximum absolute value of a float image: above noisy images, far below the range [0, 255]."""
_MODES = {"1": "L", "P": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}
"""Pillow modes that are converted to another mode first."""
_SUPPORTED_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")
_ALPHA_MODES = {"L": "LA", "RGB": "RGBA"}


@dataclass(frozen=True)
class NetworkInput:
    """Image as input of a network.

    Attributes:
        batch: (B, 3, H, W) float32 in [0, 1]. Gray images have three equal channels.
        to_original_type: function that converts a restored (B, 3, H, W) float32 to the type of the
            image. It may change its argument.
    """

    batch: Tensor
    to_original_type: Callable[[Tensor], Any]


def to_network_input(image: Any) -> NetworkInput:
    """Convert an image to the input of a network.

    Args:
        image: path of an image file, PIL image, NumPy array or tensor; see
            :meth:`Restorer.__call__`.

    Raises:
        UserError: the type, dtype, shape or range is not supported, or the file can't be read.
    """
    if isinstance(image, str | Path):
        image = read_image(Path(image))
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    hint = ": pass one image at a time" if isinstance(image, list | tuple) else ""
    raise UserError(
        f"image must be a path, a PIL image, a NumPy array or a tensor, not "
        f"{type(image).__name__}{hint}"
    )


def _from_pillow(image: Image.Image) -> NetworkInput:
    mode = _MODES.get(image.mode, image.mode)
    if mode not in _SUPPORTED_MODES:
        integer = image.mode.startswith("I")
        hint = "np.asarray(image).astype('uint16')" if integer else "image.convert('RGB')"
        raise UserError(f"the PIL mode {image.mode} of the image is not supported: pass {hint}")
    info = dict(image.info)
    if image.has_transparency_data:  # transparency of a palette entry or of one color
        mode = _ALPHA_MODES.get(mode, mode)
        info.pop("transparency", None)
    try:
        array = np.asarray(image if image.mode == mode else image.convert(mode))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"the image can't be decoded ({error}): open it again") from error
    inner = _from_array(array)

    def convert(restored: Tensor) -> Image.Image:
        picture = Image.fromarray(inner.to_original_type(restored))
        picture.info = info  # includes the ICC profile and EXIF
        return picture

    return NetworkInput(inner.batch, convert)


def _from_array(image: NDArray[Any]) -> NetworkInput:
    shape = image.shape
    if image.ndim not in (2, 3, 4) or (image.ndim > 2 and shape[-1] > 4) or 0 in shape:
        hint = ""
        if image.ndim > 2 and shape[-3] in (1, 3, 4):
            hint = ": move the channels last with np.moveaxis(image, -3, -1)"
        raise UserError(
            f"an array must be (H, W), (H, W, C) or (B, H, W, C) with C from 1 to 4, not {shape}"
            f"{hint}"
        )
    native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}") from error
    inner = _from_tensor(tensor.movedim(-1, -3) if image.ndim > 2 else tensor)

    def convert(restored: Tensor) -> NDArray[Any]:
        back: Tensor = inner.to_original_type(restored)
        array = np.ascontiguousarray((back.movedim(-3, -1) if image.ndim > 2 else back).numpy())
        return array.astype(image.dtype, copy=False)

    return NetworkInput(inner.batch, convert)


def _from_tensor(image: Tensor) -> NetworkInput:
    shape = tuple(image.shape)
    if image.dim() not in (2, 3, 4) or (image.dim() > 2 and shape[-3] > 4) or 0 in shape:
        hint = ""
        if image.dim() > 2 and shape[-1] in (1, 3, 4):
            hint = ": move the channels first with image.movedim(-1, -3)"
        raise UserError(
            f"a tensor must be (H, W), (C, H, W) or (B, C, H, W) with C from 1 to 4, not {shape}"
            f"{hint}"
        )
    if image.layout != torch.strided or image.device.type == "meta":
        raise UserError("a tensor must be dense and not on the meta device: pass image.to_dense()")
    if image.dtype not in (*_PEAKS, *_FLOATS):
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}")
    pixels = image.detach().reshape(-1, *(shape[-3:] if image.dim() > 2 else (1, *shape)))
    peak = _PEAKS.get(image.dtype)
    colors = pixels[:, : 1 if pixels.shape[1] < 3 else 3]
    colors = colors.to("cpu", torch.float32)
    if peak is None:
        _check_range(colors)
    else:
        colors.div_(peak)  # a copy, because its dtype changed
    gray = colors.shape[1] == 1
    alpha = pixels[:, -1:] if pixels.shape[1] % 2 == 0 else None

    def convert(restored: Tensor) -> Tensor:
        restored = (restored.mean(1, keepdim=True) if gray else restored).clamp_(0, 1)
        if peak is not None:
            restored = restored.mul_(peak).round_()
        back = restored.to(image.device, image.dtype)
        if alpha is not None:
            back = torch.cat((back, alpha), 1)
        return back.reshape(image.shape)

    return NetworkInput(colors.expand(-1, 3, -1, -1), convert)


def _check_range(colors: Tensor) -> None:
    """Raise UserError if a float image is not finite or far outside of [0, 1]."""
    low, high = (bound.item() for bound in colors.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError("the image must be finite, but has NaN or infinite values")
    if low < -_MOST_OUTSIDE or high > _MOST_OUTSIDE:
        hint = "divide it by 255, or pass uint8" if high <= 255 and low > -50 else "rescale it"
        raise UserError(
            f"a floating-point image must be in [0, 1], but has values from {low:.4g} to "
            f"{high:.4g}: {hint}"
        )
