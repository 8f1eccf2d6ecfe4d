"""Choice of the images that are cached, and of the cache."""

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray

from mprnet_lit.data.datasets import ImageCache
from mprnet_lit.data.samples import Sample, decoded_bytes
from mprnet_lit.data.shared_cache import SharedCache, node_token, open_shared_cache
from mprnet_lit.data.store import SUFFIX

Cache = ImageCache | SharedCache
_WINDOWS = 2
"""Windows that fit in the cache: workers may read the next window before others end the current."""


@dataclass(frozen=True, eq=False)
class CachePlan:
    """Images that the cache of a machine holds.

    Attributes:
        limit: maximum size of the decoded images in bytes.
        sizes: estimated size of each decoded training sample in bytes (images,); 0 in a store.
        window: maximum size in bytes of the training images whose crops are shuffled together;
            ``None`` to shuffle all.
        training: whether training images are cached.
        validation: whether validation images are cached.
        space: maximum size of the cached images in bytes, at most ``limit``.
    """

    limit: int
    sizes: NDArray[np.int64]
    window: int | None
    training: bool
    validation: bool
    space: int

    @classmethod
    def of(
        cls, training: Sequence[Sample], validation: Sequence[Sample], crops: int, limit: int
    ) -> "CachePlan":
        """Return the plan for a limit in bytes and a number of crops per training image.

        If the training images do not fit, a window of them is cached, unless each image is read
        only once. Validation images are cached if all of them fit in the rest of the cache.
        """
        sizes = decoded_bytes(training, without=SUFFIX)
        total = int(sizes.sum())
        of_validation = int(decoded_bytes(validation, without=SUFFIX).sum())
        fits = total <= limit
        is_cached = fits or crops > 1
        used = min(total, limit) if is_cached else 0
        validation_fits = of_validation <= limit - used
        return cls(
            limit,
            sizes,
            None if fits or crops == 1 else limit // _WINDOWS,
            is_cached,
            validation_fits,
            used + of_validation * validation_fits,
        )

    def open(self, trainer: Trainer | None, workers: int, reserved: int) -> tuple[Cache, Cache]:
        """Return the caches of the training and of the validation images.

        If the processes of this machine can't share a cache, a warning is printed, and each gets a
        part of the limit.

        Args:
            trainer: trainer of all processes, which call this function together.
            workers: number of worker processes per device.
            reserved: size in bytes of the batches in shared memory.
        """
        token, devices = secrets.token_hex(8), 1
        if trainer is not None:
            token, devices = trainer.strategy.broadcast(token), trainer.num_devices
        processes = max(workers, 1) * devices + (workers > 0)  # validation has further workers
        cache: Cache | None = None
        if processes > 1 and self.space:
            cache = open_shared_cache(self.limit, self.space, node_token(token), 2 * reserved)
            if cache is None and (trainer is None or trainer.is_global_zero):
                print(
                    "Warning: neither /dev/shm nor the folder for temporary files has "
                    f"{self.space / 1e9:.2g} GB free for decoded images: each of {processes} "
                    f"processes decodes all images and caches {self.limit / processes / 1e9:.2g} "
                    "GB, which is slower; free space there, set TMPDIR to a folder with more "
                    "space, or run mode=prepare",
                    file=sys.stderr,
                    flush=True,
                )
        if cache is None:
            cache = ImageCache(self.limit // processes)
        none = ImageCache(0)
        return cache if self.training else none, cache if self.validation else none
