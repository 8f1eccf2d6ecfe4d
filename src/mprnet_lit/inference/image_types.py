"""Conversion between the image types that a Restorer accepts and the input of the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mprnet_lit.images.reading import read_image
from mprnet_lit.inference.results import Result
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


@dataclass(frozen=True)
class NetworkInput:
    """Pixels of an image, and constructor of its results.

    Attributes:
        pixels: pixels (B, C, H, W) of the image with C = 1 or 3, of the type of the image. They
            share the memory of the image where possible.
        result: function that returns an empty result in the type of the image.
    """

    pixels: Tensor
    result: Callable[[], Result]


def to_network_input(image: Any) -> NetworkInput:
    """Return the pixels of an image and the constructor of its results.

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
        pixels: pixels of :class:`NetworkInput`, or some rows and columns of them.
        device: device of the batch.

    Returns:
        Batch (B, 3, H, W) float32 in [0, 1] with the channels last in memory; gray images have
        three equal channels.
    """
    pixels = to_device(pixels, device)
    peak = _PEAKS.get(pixels.dtype)
    # Unlike float(), this sets the stride of a batch of one image, on which the layout depends.
    batch = pixels.to(torch.float32, memory_format=torch.channels_last, copy=True)
    batch = batch if peak is None else batch.div_(peak)
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

    def to_picture(restored: NDArray[Any]) -> Image.Image:
        picture = Image.fromarray(restored)
        picture.info = info  # includes the ICC profile and EXIF
        return picture

    return _from_array(array, to_picture)


def _from_array(
    image: NDArray[Any], convert: Callable[[NDArray[Any]], Any] = lambda array: array
) -> NetworkInput:
    layouts = "an array must be (H, W), (H, W, C) or (B, H, W, C)"
    _check_shape(image.shape, -1, layouts, "move the channels last with np.moveaxis(image, -3, -1)")
    native = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError as error:
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}") from error

    def result() -> tuple[Tensor, Callable[[], Any]]:
        array = np.empty_like(native)
        pixels = _channels_first(torch.from_numpy(array))
        return pixels, lambda: convert(array.astype(image.dtype, copy=False))

    return _network_input(_channels_first(tensor), result)


def _channels_first(array: Tensor) -> Tensor:
    return array.movedim(-1, -3) if array.dim() > 2 else array


def _from_tensor(image: Tensor) -> NetworkInput:
    layouts = "a tensor must be (H, W), (C, H, W) or (B, C, H, W)"
    hint = "move the channels first with image.movedim(-1, -3)"
    _check_shape(tuple(image.shape), -3, layouts, hint)
    if image.layout != torch.strided or image.device.type == "meta":
        raise UserError("a tensor must be dense and not on the meta device: pass image.to_dense()")

    def result() -> tuple[Tensor, Callable[[], Any]]:
        restored = torch.empty(image.shape, dtype=image.dtype, device=image.device)
        return restored, lambda: restored

    return _network_input(image.detach(), result)


def _network_input(
    image: Tensor, new_result: Callable[[], tuple[Tensor, Callable[[], Any]]]
) -> NetworkInput:
    """Return the input for an image (H, W), (C, H, W) or (B, C, H, W).

    ``new_result`` returns the memory of a result in the shape of the image, and the function that
    returns the result.
    """
    if image.dtype not in (*_PEAKS, *_FLOATS):
        raise UserError(f"an image must be {_TYPES}, not {image.dtype}")
    pixels = _as_batch(image)
    colors = 1 if pixels.shape[1] < 3 else 3
    peak = _PEAKS.get(image.dtype)
    if peak is None:
        _check_range(pixels[:, :colors])

    def result() -> Result:
        restored, value = new_result()
        restored = _as_batch(restored)
        restored[:, colors:] = pixels[:, colors:]  # alpha
        return Result(restored, colors, peak, value)

    return NetworkInput(pixels[:, :colors], result)


def _as_batch(image: Tensor) -> Tensor:
    """Return a view (B, C, H, W) of an image."""
    missing = {2: (None, None), 3: (None,), 4: ()}[image.dim()]
    return image[missing]


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
