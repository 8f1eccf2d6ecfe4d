"""Evaluation loop: restore and score the images of test sets on one or more devices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mprnet_lit.data.datasets import to_tensor
from mprnet_lit.data.sampling import EpochSampler, ItemKey
from mprnet_lit.evaluation.dnd import DndImage, write_submission
from mprnet_lit.evaluation.test_sets import EvaluationImage
from mprnet_lit.images.reading import to_float
from mprnet_lit.inference import Restorer
from mprnet_lit.metrics import Protocol, mean_scores
from mprnet_lit.metrics.protocols import TileCounts
from mprnet_lit.utils.prefetch import prefetch

Scores = dict[str, float]


@dataclass(frozen=True)
class TestSet:
    """Test set with its published scores.

    Attributes:
        name: name of the test set.
        images: images in the folder of the test set.
        published: published scores: ``psnr`` in dB, ``ssim``, ``weights`` (their name) and ``tlc``
            (whether TLC was on).
        expected: number of images of the published scores; ``None`` for custom image pairs.
    """

    name: str
    images: Sequence[EvaluationImage]
    published: Sequence[dict[str, Any]] = ()
    expected: int | None = None


@dataclass(frozen=True)
class Row:
    """Scores of one image.

    Attributes:
        name: name of the image.
        set_name: name of its test set.
        image: source of the pixels.
        scores: metrics of the restored image (``psnr`` in dB, ``ssim``) and of the degraded image
            (``psnr_degraded``, ``ssim_degraded``).
        tiles: number of tiles of the restoration; 1 for the whole image.
    """

    name: str
    set_name: str
    image: EvaluationImage
    scores: Scores
    tiles: int = 1


class Evaluation(LightningModule):
    """LightningModule for ``Trainer.test`` that scores every image of test sets.

    The images are distributed over all devices. Afterwards, ``rows`` has the scores of all images
    on every process.

    Args:
        restorer: Restorer of the evaluated network.
        sets: test sets.
        measures: metric classes, which are applied to the restored and to the degraded images.
    """

    def __init__(
        self, restorer: Restorer, sets: Sequence[TestSet], measures: Sequence[type[Protocol]]
    ) -> None:
        super().__init__()
        self.restorer = restorer
        self.places = [(s.name, image) for s in sets for image in s.images]
        self.restored = nn.ModuleList(measure() for measure in measures)
        self.degraded = nn.ModuleList(measure() for measure in measures)
        self.tile_counts = TileCounts()
        self.rows: list[Row] = []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the images of this process, one at a time."""
        return _loader(_ImagePairs([image for _, image in self.places]), self)

    def test_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Restore and score one image."""
        index, degraded, target = batch["index"], batch["degraded"], batch["target"]
        tiles: list[int] = []
        restored = self.restorer.restore(
            degraded, last_only=True, progress=lambda _, count: tiles.append(count)
        )[-1]
        self.tile_counts.update(index, max(tiles))
        if self.device.type == "cuda":  # compute the metrics on the GPU
            restored, degraded = restored.to(self.device), degraded.to(self.device)
        for metrics, images in ((self.restored, restored), (self.degraded, degraded)):
            for metric in metrics:
                assert isinstance(metric, Protocol)
                metric.update(index, images, target)

    def on_test_epoch_end(self) -> None:
        """Gather the scores of all processes."""
        parts: list[tuple[str, dict[int, Scores]]] = []
        for suffix, metrics in (("", self.restored), ("_degraded", self.degraded)):
            for metric in metrics:
                assert isinstance(metric, Protocol)
                parts.append((suffix, metric.compute()))
        tiles = self.tile_counts.compute()
        self.rows = [
            Row(
                image.name,
                set_name,
                image,
                {f"{k}{suffix}": v for suffix, table in parts for k, v in table[place].items()},
                round(tiles[place]["tiles"]),
            )
            for place, (set_name, image) in enumerate(self.places)
        ]

    def transfer_batch_to_device(self, batch: Any, *_: Any) -> Any:
        """Keep the batch on the CPU, because the Restorer transfers one tile after another."""
        return batch


class Submission(LightningModule):
    """LightningModule for ``Trainer.test`` that writes a submission to the DND server.

    Afterwards, ``tiles`` has the maximum number of tiles per crop of every image, on every process.

    Args:
        restorer: Restorer of the evaluated network.
        images: images of the data set.
        folder: folder of the submission, with one file per image.
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
        return _loader(_Crops(self.images), self)

    def test_step(self, batch: dict[str, Any], _: int) -> None:
        """Restore the crops of one image separately."""
        tiles: list[int] = []
        crops = [
            self.restorer(crop.numpy(), lambda _, count: tiles.append(count))
            for crop in batch["crops"]
        ]
        self.tile_counts.update(batch["index"], max(tiles))
        write_submission(self.folder / f"{batch['name']}.mat", crops)

    def on_test_epoch_end(self) -> None:
        """Gather the number of tiles from all processes."""
        self.tiles = [round(row["tiles"]) for row in self.tile_counts.compute().values()]


def means(rows: Sequence[Row]) -> dict[str, Scores]:
    """Return the mean scores over the images of each test set, by its name."""
    names = dict.fromkeys(row.set_name for row in rows)
    return {name: mean_scores(row.scores for row in rows if row.set_name == name) for name in names}


def compare_with_published(
    measured: Scores, published: Sequence[dict[str, Any]], tlc: bool
) -> list[dict[str, Any]]:
    """Add ``difference`` (measured minus published score) to published scores.

    Args:
        measured: mean scores.
        published: published scores; see :class:`TestSet`.
        tlc: whether TLC was on. ``difference`` is ``None`` for published scores with another value.
    """
    return [
        scores
        | {
            "difference": {k: measured[k] - scores[k] for k in ("psnr", "ssim") if k in scores}
            if bool(scores.get("tlc")) == tlc
            else None
        }
        for scores in published
    ]


class _ImagePairs(Dataset[dict[str, Any]]):
    def __init__(self, images: Sequence[EvaluationImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: ItemKey) -> dict[str, Any]:
        degraded, target = self.images[key.item].read()
        return {
            "index": key.item,
            "degraded": to_tensor(to_float(degraded))[None],
            "target": to_tensor(target)[None],
        }


class _Crops(Dataset[dict[str, Any]]):
    def __init__(self, images: Sequence[DndImage]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: ItemKey) -> dict[str, Any]:
        image = self.images[key.item]
        return {"index": key.item, "name": image.name, "crops": image.read()}


class _PrefetchLoader(DataLoader[Any]):
    """DataLoader that reads the next image in a thread while the current one is restored."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return prefetch(super().__iter__())


def _loader(dataset: Dataset[Any], module: LightningModule) -> DataLoader[Any]:
    trainer = module.trainer
    length = len(dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(length, rank=trainer.global_rank, world_size=trainer.world_size)
    return _PrefetchLoader(dataset, batch_size=None, sampler=sampler)
