"""Result of a restoration, which is written in bands from top to bottom."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from mprnet_lit.utils.transfer import HostCopy


class Result:
    """Restored image in the type of the original image.

    Each band is converted to the type of the image as soon as it is finished. No whole image is in
    memory as floating point.

    Args:
        pixels: memory of the result, (B, C, H, W) of any type, with 1 or 3 color channels and
            possibly alpha. Alpha is already in place.
        colors: number of color channels.
        peak: maximum value of an integer type; ``None`` for floating point.
        value: function that returns the result in the type of the original image.
    """

    def __init__(
        self, pixels: Tensor, colors: int, peak: int | None, value: Callable[[], Any]
    ) -> None:
        self._pixels, self._peak, self._value = pixels[:, :colors], peak, value
        self._copying: tuple[int, HostCopy] | None = None

    def write(self, top: int, band: Tensor) -> None:
        """Write restored rows (B, 3, h, W) from row ``top`` on.

        The rows, which may be on any device, are clipped to [0, 1] and changed in place.
        """
        gray = self._pixels.shape[1] == 1
        band = (band.mean(1, keepdim=True) if gray else band).clamp_(0, 1)
        if self._peak is not None:
            band = band.mul_(self._peak).round_()
        if not band.is_cpu:
            band = band.to(self._pixels.dtype)  # before the copy, which is then smaller
        if band.is_cuda and self._pixels.is_cpu:
            upcoming = top, HostCopy(band)  # in the background
            self._finish_copy()
            self._copying = upcoming
        else:
            self._put(top, band)

    def finish(self) -> Any:
        """Return the result after all rows were written."""
        self._finish_copy()
        return self._value()

    def _finish_copy(self) -> None:
        if self._copying is not None:
            top, copy = self._copying
            self._put(top, copy.wait())
            self._copying = None

    def _put(self, top: int, band: Tensor) -> None:
        rows = self._pixels[..., top : top + band.shape[-2], :]
        if self._peak is None or not rows.is_cpu:
            rows.copy_(band)
        else:  # torch would take five times as long to convert
            with np.errstate(invalid="ignore"):  # NaN
                np.copyto(rows.numpy(), band.numpy(), casting="unsafe")
