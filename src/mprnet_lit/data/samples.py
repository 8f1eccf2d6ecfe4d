"""Samples of a data set, and a compact list of them."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mprnet_lit.images.formats import HIGH_BIT_DEPTH_SUFFIXES


@dataclass(frozen=True, slots=True)
class Sample:
    """Target image, and its degraded image of the same size, if any.

    Attributes:
        name: path of the degraded image (of the target if ``degraded`` is ``None``), relative to
            its folder and without the file name suffix.
        target: path of the target.
        degraded: path of the degraded image; ``None`` to degrade the target on the fly.
        height: height in pixels.
        width: width in pixels.
    """

    name: str
    target: Path
    degraded: Path | None
    height: int
    width: int


class SampleList(Sequence[Sample]):
    """Compact list of samples in a few arrays. A sample is created when it is read.

    A list of ``Sample`` would be several times larger, and each worker process would copy it,
    because reading a Python object changes the page of memory that holds it.

    Attributes:
        sizes: height and width of each sample in pixels, (N, 2) int32.

    Args:
        names: names.
        targets: paths of the targets.
        degraded: paths of the degraded images; empty for a sample without one.
        sizes: heights and widths in pixels, (N, 2).
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        targets: Iterable[str] = (),
        degraded: Iterable[str] = (),
        sizes: ArrayLike = (),
    ) -> None:
        self._names, self._targets, self._degraded = map(_texts, (names, targets, degraded))
        self.sizes: NDArray[np.int32] = np.array(sizes, np.int32).reshape(-1, 2)

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Return the samples as a compact list: the same object if it is one."""
        if isinstance(samples, cls):
            return samples
        return cls(
            (s.name for s in samples),
            (str(s.target) for s in samples),
            ("" if s.degraded is None else str(s.degraded) for s in samples),
            [(s.height, s.width) for s in samples],
        )

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Sample | Self:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        index = range(len(self))[index]
        degraded = self._degraded[index]
        return Sample(
            self._names[index],
            Path(self._targets[index]),
            Path(degraded) if degraded else None,
            *self.sizes[index].tolist(),
        )

    def take(self, indices: Sequence[int]) -> Self:
        """Return the samples with the given indices."""
        return type(self)(
            self._names.take(indices),
            self._targets.take(indices),
            self._degraded.take(indices),
            self.sizes[np.asarray(indices, np.intp)],
        )

    def has_pairs(self) -> bool:
        """Return whether a sample has a degraded image."""
        return len(self._degraded.content) > 0

    def columns(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Yield the name, the paths of target and degraded image, the height and the width."""
        heights, widths = self.sizes.T.tolist()
        return zip(self._names, self._targets, self._degraded, heights, widths, strict=True)


def digest(samples: Sequence[Sample], *options: Any) -> str:
    """Return a digest of the names, sizes and order of images, and of further values."""
    found = hashlib.sha256()
    for name, _, _, height, width in SampleList.of(samples).columns():
        found.update(f"{name!r} {width} {height}\n".encode())
    found.update(repr(options).encode())
    return found.hexdigest()


def decoded_bytes(samples: Sequence[Sample], without: str) -> NDArray[np.int64]:
    """Return the size of the decoded images of each sample, (N,), estimated from the suffixes.

    Args:
        samples: samples.
        without: suffix of the targets whose samples count as 0.
    """
    listed = SampleList.of(samples)
    depths = [
        0 if target.endswith(without) else _depth(target) + _depth(degraded)
        for _, target, degraded, _, _ in listed.columns()
    ]
    pixels: NDArray[np.int64] = listed.sizes.prod(axis=1, dtype=np.int64)
    return 3 * np.array(depths, np.int64) * pixels


class _Texts:
    """Compact list of texts: their bytes one after another, and the end of each."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.content, self.ends = bytearray(), array("q")
        content, ends = self.content, self.ends
        for text in texts:
            content += text.encode("utf-8", "surrogatepass")  # file names may have surrogates
            ends.append(len(content))

    def take(self, indices: Sequence[int]) -> Self:
        new = type(self)()
        parts = [self._encoded(index) for index in indices]
        new.content = bytearray().join(parts)
        new.ends.extend(accumulate(map(len, parts)))
        return new

    def __getitem__(self, index: int) -> str:
        return self._encoded(index).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[k] for k in range(len(self.ends)))

    def _encoded(self, index: int) -> bytearray:
        start = self.ends[index - 1] if index else 0
        return self.content[start : self.ends[index]]


def _texts(texts: Iterable[str]) -> _Texts:
    return texts if isinstance(texts, _Texts) else _Texts(texts)


def _depth(path: str) -> int:
    """Return the bytes per channel of the image of a path; 0 for no path."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  # Path would be slow
    return 0 if not path else 2 if suffix in HIGH_BIT_DEPTH_SUFFIXES else 1
