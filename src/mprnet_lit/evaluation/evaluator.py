"""Evaluation loop: restore and score the images of test sets on one or more devices."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mprnet_lit.data.crops import to_tensor
from mprnet_lit.data.sampling import EpochSampler
from mprnet_lit.evaluation.dnd import DndImage, write_submission
from mprnet_lit.evaluation.test_sets import EvaluationImage, ImageFiles
from mprnet_lit.images.memory import decoded_bytes
from mprnet_lit.images.reading import to_float
from mprnet_lit.inference import Restorer
from mprnet_lit.metrics import Protocol
from mprnet_lit.metrics.protocols import TileCounts
from mprnet_lit.utils.hardware import core_share
from mprnet_lit.utils.prefetch import map_ahead

Scores = dict[str, float]

_BYTES_AHEAD = 1e9
"""Maximum memory of the images that are read ahead."""


@dataclass(frozen=True)
class TestSet:
    """Test set with its published scores.

    Attributes:
        name: name of the test set.
        images: image pairs of the test set.
        published: published scores, each with the keys ``psnr`` (in dB), ``ssim``, ``weights``
            (name of the weights) and ``tlc`` (whether TLC was on).
        expected: number of images in the published evaluation; ``None`` for custom image pairs.
    """

    name: str
    images: Sequence[EvaluationImage]
    published: Sequence[dict[str, Any]] = ()
    expected: int | None = None


@dataclass(frozen=True)
class Row:
    """Scores of one image.

    Attributes:
        image: image pair.
        set_name: name of the test set.
        scores: metrics of the restored image (``psnr`` in dB, ``ssim``) and of the degraded image
            (``psnr_degraded``, ``ssim_degraded``).
        tiles: number of tiles of the restoration; 1 if the image was not tiled.
    """

    image: EvaluationImage
    set_name: str
    scores: Scores
    tiles: int


class Evaluation(LightningModule):
    """LightningModule for ``Trainer.test`` that scores every image of test sets.

    The images are distributed over all devices. Afterwards, ``rows`` has the scores of all images
    on every process. Each metric in ``measures`` is applied to the restored and to the degraded
    images.
    """

    def __init__(
        self,
        restorer: Restorer,
        sets: Sequence[TestSet],
        measures: Sequence[Callable[[], Protocol]],
    ) -> None:
        super().__init__()
        self.restorer = restorer
        self.images = [(image, s.name) for s in sets for image in s.images]
        self.restored: Any = nn.ModuleList(measure() for measure in measures)
        self.degraded: Any = nn.ModuleList(measure() for measure in measures)
        self.tile_counts = TileCounts()
        self.rows: list[Row] = []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the images of this process, one at a time."""
        return _loader(self, [image for image, _ in self.images], _read_pair, _pair_bytes)

    def test_step(self, batch: tuple[int, Tensor, Tensor], _: int) -> None:
        """Restore and score one image."""
        index, degraded, target = batch
        tiles: list[int] = []
        restored = self.restorer.restore(
            degraded, last_only=True, progress=lambda _, count: tiles.append(count)
        )[-1]
        self.tile_counts.update(index, max(tiles))
        if self.device.type == "cuda":  # compute the metrics on the GPU
            restored, degraded = restored.to(self.device), degraded.to(self.device)
        for metrics, images in ((self.restored, restored), (self.degraded, degraded)):
            for metric in metrics:
                metric.update(index, images, target)

    def on_test_epoch_end(self) -> None:
        """Gather the scores of all processes."""
        tables = [("", metric.compute()) for metric in self.restored]
        tables += [("_degraded", metric.compute()) for metric in self.degraded]
        tiles = self.tile_counts.compute()
        for index, (image, set_name) in enumerate(self.images):
            scores = {
                f"{k}{suffix}": v for suffix, table in tables for k, v in table[index].items()
            }
            self.rows.append(Row(image, set_name, scores, round(tiles[index]["tiles"])))

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """Keep the batch on the CPU, because the Restorer transfers one tile at a time."""
        return batch


class Submission(LightningModule):
    """LightningModule for ``Trainer.test`` that writes a submission for the DND server.

    One file per image is written to ``folder``. Afterwards, ``tiles`` has the maximum number of
    tiles of a crop, for every image and on every process.
    """

    def __init__(self, restorer: Restorer, images: Sequence[DndImage], folder: Path) -> None:
        super().__init__()
        self.restorer = restorer
        self.images = images
        self.folder = folder
        self.tile_counts = TileCounts()
        self.tiles: list[int] = []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the images of this process, one at a time."""
        return _loader(self, self.images, _read_crops, _crops_bytes)

    def test_step(self, batch: tuple[int, list[NDArray[np.float32]]], _: int) -> None:
        """Restore each crop of one image, and write the submission file of the image."""
        index, crops = batch
        tiles: list[int] = []
        restored = [self.restorer(crop, lambda _, count: tiles.append(count)) for crop in crops]
        self.tile_counts.update(index, max(tiles))
        write_submission(self.folder / f"{self.images[index].name}.mat", restored)

    def on_test_epoch_end(self) -> None:
        """Gather the number of tiles from all processes."""
        self.tiles = [round(row["tiles"]) for row in self.tile_counts.compute().values()]


def _read_pair(item: tuple[int, EvaluationImage]) -> tuple[int, Tensor, Tensor]:
    """Return the index, the degraded image and the target, (1, 3, H, W) each."""
    index, image = item
    degraded, target = image.read()
    return index, to_tensor(to_float(degraded))[None], to_tensor(target)[None]


def _read_crops(item: tuple[int, DndImage]) -> tuple[int, list[NDArray[np.float32]]]:
    """Return the index and the crops, (H, W, 3) each."""
    index, image = item
    return index, image.read()


def _pair_bytes(item: tuple[int, EvaluationImage]) -> int:
    """Return the size of the two images of a pair in float32, from the header of the file."""
    image = item[1]
    pixels = decoded_bytes(image.degraded) if isinstance(image, ImageFiles) else image.degraded.size
    return 8 * pixels


def _crops_bytes(item: tuple[int, DndImage]) -> int:
    return item[1].path.stat().st_size


class _PrefetchLoader(DataLoader[Any]):
    """DataLoader that reads the next images in threads while the current one is restored.

    Args:
        readers: maximum number of threads.
        cost: function that returns the memory of an item in bytes.
        options: options of the DataLoader, with ``batch_size=None``.
    """

    def __init__(self, readers: int, cost: Callable[[Any], int], **options: Any) -> None:
        super().__init__(**options)
        self._readers = readers
        self._cost = cost

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        read: Callable[[Any], Any] = self.collate_fn
        items = (self.dataset[index] for index in self.sampler)
        return map_ahead(read, items, self._readers, self._cost, _BYTES_AHEAD)


def _loader(
    module: LightningModule,
    images: Sequence[Any],
    read: Callable[[Any], Any],
    cost: Callable[[Any], int],
) -> DataLoader[Any]:
    """Return a loader of ``read((index, image))`` for the images of this process."""
    rank, processes = module.trainer.global_rank, module.trainer.world_size
    sampler = EpochSampler(len(images), rank=rank, world_size=processes)
    return _PrefetchLoader(
        max(1, core_share(module.trainer.num_devices)[0]),
        cost,
        dataset=list(enumerate(images)),
        batch_size=None,
        sampler=[key.item for key in sampler],
        collate_fn=read,
    )
