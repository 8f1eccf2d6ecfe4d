"""Batches of images of the same size that wait for the device."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import numpy as np

from mprnet_lit.images.reading import Pixels


class Batches:
    """Restores one batch at a time. Images that wait for the device are restored together."""

    def __init__(self) -> None:
        self._device, self._guard = threading.Lock(), threading.Lock()
        self._waiting: dict[Hashable, list[tuple[Pixels, Future[tuple[Pixels, float]]]]] = {}

    def restore(
        self, pixels: Pixels, options: Hashable, network: Callable[[Pixels], Pixels], most: int
    ) -> tuple[Pixels, float]:
        """Wait for the device, and restore an image, alone or in a batch.

        Args:
            pixels: image (H, W, C).
            options: options of the restoration. Images of a batch have equal options.
            network: function that restores an image (H, W, C) or a batch (B, H, W, C) with these
                options.
            most: maximum number of images in a batch.

        Returns:
            The restored image (H, W, C), and the duration of its batch in seconds.
        """
        key = (options, pixels.shape, pixels.dtype.str)
        own: Future[tuple[Pixels, float]] = Future()
        with self._guard:
            self._waiting.setdefault(key, []).append((pixels, own))
        with self._device:
            while not own.done():  # otherwise, it was in the batch of another thread
                with self._guard:
                    batch, rest = self._waiting[key][:most], self._waiting.pop(key)[most:]
                    if rest:
                        self._waiting[key] = rest
                _run(batch, network)
        return own.result()


def _run(
    batch: list[tuple[Pixels, Future[tuple[Pixels, float]]]],
    network: Callable[[Pixels], Pixels],
) -> None:
    """Restore a batch; if it fails, for example for lack of memory, restore its images singly."""
    images: list[Any] = [pixels for pixels, _ in batch]
    started = time.perf_counter()
    failure: BaseException | None = None
    try:
        restored = list(network(np.stack(images))) if len(batch) > 1 else [network(images[0])]
        results = list(zip(batch, restored, strict=True))
    except BaseException as error:  # else the other threads of the batch would get no result
        failure = error
    seconds = time.perf_counter() - started
    if failure is None:
        for (_, future), image in results:
            future.set_result((image, seconds))
    elif len(batch) == 1:
        batch[0][1].set_exception(failure)
    else:
        failure = None  # frees the memory of the batch
        for each in batch:
            _run([each], network)
