"""The evaluation loop: restore the images of test sets, on one or several devices, and score."""

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
from mprnet_lit.utils.prefetch import ahead

Scores = dict[str, float]


@dataclass(frozen=True)
class TestSet:
    """A test set, and what is published of it.

    Attributes:
        name: its own.
        images: those found.
        published: figures: ``psnr``, ``ssim``, the ``weights`` they are of, ``tlc`` if it was on.
        expected: how many images the published figures are of; ``None`` for one's own pairs.
    """

    name: str
    images: Sequence[EvaluationImage]
    published: Sequence[dict[str, Any]] = ()
    expected: int | None = None


@dataclass(frozen=True)
class Row:
    """An image with its scores.

    Attributes:
        name: its own.
        set_name: the name of its test set.
        image: where it is read from.
        scores: ``psnr``, ``ssim``; ``psnr_degraded``, ``ssim_degraded``; ...
        tiles: the number of tiles that it was restored in; 1 for a whole image.
    """

    name: str
    set_name: str
    image: EvaluationImage
    scores: Scores
    tiles: int = 1


class Evaluation(LightningModule):
    """Scores every image of test sets; ``Trainer.test`` shares them out over its devices.

    After it, ``rows`` is the same table on every process, whatever their number.

    Args:
        restorer: what restores an image.
        sets: the test sets.
        measures: the metrics; each is computed of the restorations and of the degraded images.
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
        """Return this process's share of the images, one at a time."""
        return _loader(_Samples([image for _, image in self.places]), self)

    def test_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Restore and measure an image."""
        index, degraded, target = batch["index"], batch["degraded"], batch["target"]
        tiles: list[int] = []
        restored = self.restorer.restore(
            degraded, last_only=True, progress=lambda _, count: tiles.append(count)
        )[-1]
        self.tile_counts.update(index, max(tiles))
        if self.device.type == "cuda":  # measured there; elsewhere on the CPU
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
        """Leave it on the CPU: the Restorer moves what it needs, tile by tile."""
        return batch


class Submission(LightningModule):
    """Restores DND's crops and writes the bundle that its server takes.

    After it, ``tiles`` has the number of tiles of each image's crops, on every process.

    Args:
        restorer: what restores a crop.
        images: those of the set.
        folder: gets a file for each image.
    """

    def __init__(self, restorer: Restorer, images: Sequence[DndImage], folder: Path) -> None:
        super().__init__()
        self.restorer = restorer
        self.images = images
        self.folder = folder
        self.tile_counts = TileCounts()
        self.tiles: list[int] = []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return this process's share of the images, one at a time."""
        return _loader(_Crops(self.images), self)

    def test_step(self, batch: dict[str, Any], _: int) -> None:
        """Restore an image's crops, each by itself."""
        tiles: list[int] = []
        crops = [
            self.restorer(crop.numpy(), lambda _, count: tiles.append(count))
            for crop in batch["crops"]
        ]
        self.tile_counts.update(batch["index"], max(tiles))
        write_submission(self.folder / f"{batch['name']}.mat", crops)

    def on_test_epoch_end(self) -> None:
        """Gather the tiles of all processes."""
        self.tiles = [round(row["tiles"]) for row in self.tile_counts.compute().values()]


def means(rows: Sequence[Row]) -> dict[str, Scores]:
    """Return the mean scores of each set, over its images."""
    names = dict.fromkeys(row.set_name for row in rows)
    return {name: mean_scores(row.scores for row in rows if row.set_name == name) for name in names}


def differences(
    measured: Scores, published: Sequence[dict[str, Any]], tlc: bool
) -> list[dict[str, Any]]:
    """Add to published figures, where TLC was as now, what is measured minus them."""
    return [
        figure
        | {
            "difference": {k: measured[k] - figure[k] for k in ("psnr", "ssim") if k in figure}
            if bool(figure.get("tlc")) == tlc
            else None
        }
        for figure in published
    ]


class _Samples(Dataset[dict[str, Any]]):
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


class _AheadLoader(DataLoader[Any]):
    """Reads the next image in a thread while one is being restored."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return ahead(super().__iter__())


def _loader(dataset: Dataset[Any], module: LightningModule) -> DataLoader[Any]:
    trainer = module.trainer
    length = len(dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(length, rank=trainer.global_rank, world_size=trainer.world_size)
    return _AheadLoader(dataset, batch_size=None, sampler=sampler)
