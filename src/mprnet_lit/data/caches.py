"""Choice of the images that are cached, and of the cache."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mprnet_lit.data.datasets import ImageCache
from mprnet_lit.data.pairing import Sample
from mprnet_lit.data.shared_cache import SharedCache, open_shared_cache
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
        sizes = _sizes(training)
        total, of_validation = int(sizes.sum()), int(_sizes(validation).sum())
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

    def open(self, processes: int, token: str, reserved: int, *, warn: bool) -> tuple[Cache, Cache]:
        """Return the caches of the training and of the validation images.

        Args:
            processes: number of processes of this machine that read images.
            token: token of this machine; see :func:`open_shared_cache`.
            reserved: size in bytes of the batches in shared memory.
            warn: whether to print a warning if the processes can't share a cache.
        """
        cache: Cache | None = None
        if processes > 1 and self.space:
            cache = open_shared_cache(self.limit, self.space, token, reserved)
            if cache is None and warn:
                print(
                    f"Warning: neither /dev/shm nor the folder for temporary files has "
                    f"{self.space / 1e9:.2g} GB free for decoded images: each of {processes} "
                    f"processes decodes all images and caches {self.limit / processes / 1e9:.2g} "
                    "GB, which is slower; free space there, set TMPDIR to a folder with more "
                    "space, or run mode=prepare",
                    file=sys.stderr,
                    flush=True,
                )
        if cache is None:
            cache = ImageCache(self.limit // processes)
        return cache if self.training else ImageCache(0), cache if self.validation else ImageCache(
            0
        )


def _sizes(samples: Sequence[Sample]) -> NDArray[np.int64]:
    sizes = (0 if s.target.suffix == SUFFIX else s.decoded_bytes for s in samples)
    return np.fromiter(sizes, np.int64, len(samples))
