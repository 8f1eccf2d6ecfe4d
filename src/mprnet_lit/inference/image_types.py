"""Conversion between the image types that a Restorer accepts and the input of the network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mprnet_lit.images.reading import read_image
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.transfer import to_device

_PEAKS = {torch.uint8: 255, torch.uint16: 65535}
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_TYPES = "uint8, uint16 or floating point in [0, 1]"
_MAX_ABSOLUTE = 4.0
"""Maximum absolute value of a float image: noisy images stay below, images in [0, 255] do not."""
_MODES = {"1": "L", "P": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}
"""Pillow modes that are converted to another mode first."""
_SUPPORTED_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")
_ALPHA_MODES = {"L": "LA", "RGB": "RGBA"}


NetworkInput = tuple[Tensor, Callable[[Tensor], Any]]
"""Pixels and converter of an image.

The pixels are (B, C, H, W) with C = 1 or 3, of uint8, uint16 or float32 (see :func:`to_batch`). The
converter maps a restored batch (B, 3, H, W) on any device to the type of the image. The converter
may modify the restored batch in place.
"""


def to_network_input(image: Any) -> NetworkInput:
    """Return the pixels of an image and the converter of its result.

    Args:
        image: image; see :meth:`Restorer.__call__`.

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


def to_batch(pixels: Tensor, device: torch.device) -> Tensor:
    """Copy pixels to a device in their own type, and convert them there.

    Args:
        pixels: pixels of :func:`to_network_input`.
        device: device of the batch.

    Returns:
        Batch (B, 3, H, W) float32 in [0, 1]; gray images have three equal channels.
    """
    pixels = to_device(pixels, device)
    peak = _PEAKS.get(pixels.dtype)
    batch = pixels if peak is None else pixels.float().div_(peak)
    return batch.expand(-1, 3, -1, -1)


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
        raise UserError(f"the image can't be decoded ({error}): open the image again") from error
    batch, to_array = _from_array(array)

    def convert(restored: Tensor) -> Image.Image:
        picture = Image.fromarray(to_array(restored))
        picture.info = info  # includes the ICC profile and EXIF
        return picture

    return batch, convert


def _from_array(image: NDArray[Any]) -> NetworkInput:
    layouts = "an array must be (H, W), (H, W, C) or (B, H, W, C)"
    _check_shape(image.shape, -1, layouts, "move the channels last with np.moveaxis(image, -3, -1)")
    native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}") from error
    batch, to_tensor = _from_tensor(tensor.movedim(-1, -3) if image.ndim > 2 else tensor)

    def convert(restored: Tensor) -> NDArray[Any]:
        back: Tensor = to_tensor(restored)
        array = np.ascontiguousarray((back.movedim(-3, -1) if image.ndim > 2 else back).numpy())
        return array.astype(image.dtype, copy=False)

    return batch, convert


def _from_tensor(image: Tensor) -> NetworkInput:
    shape = tuple(image.shape)
    layouts = "a tensor must be (H, W), (C, H, W) or (B, C, H, W)"
    _check_shape(shape, -3, layouts, "move the channels first with image.movedim(-1, -3)")
    if image.layout != torch.strided or image.device.type == "meta":
        raise UserError("a tensor must be dense and not on the meta device: pass image.to_dense()")
    if image.dtype not in (*_PEAKS, *_FLOATS):
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}")
    pixels = image.detach().reshape(-1, *(shape[-3:] if image.dim() > 2 else (1, *shape)))
    peak = _PEAKS.get(image.dtype)
    colors = pixels[:, : 1 if pixels.shape[1] < 3 else 3]
    if peak is None:
        colors = colors.float()
        _check_range(colors)
    gray = colors.shape[1] == 1
    alpha = pixels[:, -1:] if pixels.shape[1] % 2 == 0 else None

    def convert(restored: Tensor) -> Tensor:
        restored = (restored.mean(1, keepdim=True) if gray else restored).clamp_(0, 1)
        if peak is not None:
            restored = restored.mul_(peak).round_()
        # The conversion comes first, because it makes the copy smaller. Memory of the result is not
        # pinned: it would stay pinned as long as the user keeps the result.
        back = restored.to(image.dtype).to(image.device)
        if alpha is not None:
            back = torch.cat((back, alpha), 1)
        return back.reshape(image.shape)

    return colors, convert


def _check_shape(shape: Sequence[int], channel_axis: int, layouts: str, hint: str) -> None:
    """Raise UserError unless a shape has 2 to 4 dimensions and at most 4 channels."""
    has_channels = len(shape) > 2
    if (
        len(shape) in (2, 3, 4)
        and 0 not in shape
        and not (has_channels and shape[channel_axis] > 4)
    ):
        return
    other_axis = -3 if channel_axis == -1 else -1
    remedy = f": {hint}" if has_channels and shape[other_axis] in (1, 3, 4) else ""
    raise UserError(f"{layouts} with C from 1 to 4, not {tuple(shape)}{remedy}")


def _check_range(colors: Tensor) -> None:
    """Raise UserError if a float image is not finite or far outside of [0, 1]."""
    low, high = (bound.item() for bound in colors.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError("the image must be finite, but has NaN or infinite values")
    if low < -_MAX_ABSOLUTE or high > _MAX_ABSOLUTE:
        hint = "divide it by 255, or pass uint8" if high <= 255 and low > -50 else "rescale it"
        raise UserError(
            f"a floating-point image must be in [0, 1], but has values from {low:.4g} to "
            f"{high:.4g}: {hint}"
        )
