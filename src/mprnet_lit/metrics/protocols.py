"""Published evaluation protocols as torchmetrics metrics.

Scores are stored by image index, so that images repeated by a distributed sampler count once.
Published scores are means over the images, not the PSNR of the pooled error.
"""

import importlib
import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mprnet_lit.metrics.quality import luma, psnr, ssim, ssim_volume
from mprnet_lit.metrics.realblur import realblur_scores
from mprnet_lit.utils.checks import require, require_batch, require_pair
from mprnet_lit.utils.errors import UserError, install_hint

Scores = dict[int, dict[str, float]]
"""Scores by image index and column, sorted by index."""


class PerImageMetric(Metric):
    """Base class of metrics with separate scores for each image, gathered from all processes."""

    full_state_update = False
    columns: tuple[str, ...]
    index: list[Tensor]
    scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("index", [], dist_reduce_fx="cat")
        self.add_state("scores", [], dist_reduce_fx="cat")

    def record(self, index: Tensor | int, scores: Tensor) -> None:
        """Add the scores (B, columns) of the images with the indices (B,)."""
        self.index.append(torch.as_tensor(index).reshape(-1).to(self.device))
        self.scores.append(scores.to(self.device))

    def compute(self) -> Scores:
        """Return the scores of the images of all processes."""
        index, scores = dim_zero_cat(self.index), dim_zero_cat(self.scores)
        table = dict(zip(index.tolist(), scores.tolist(), strict=True))
        return {i: dict(zip(self.columns, table[i], strict=True)) for i in sorted(table)}


class TileCounts(PerImageMetric):
    """Number of tiles of each image."""

    columns = ("tiles",)

    def update(self, index: Tensor | int, tiles: int) -> None:
        """Add the number of tiles of one image."""
        self.record(index, torch.tensor([[float(tiles)]]))


class Protocol(PerImageMetric):
    """PSNR and SSIM of each image.

    Subclasses define the measurement of a batch. By default, images are rounded to 8 bits, because
    published evaluations read 8-bit files.
    """

    higher_is_better = True
    columns: tuple[str, ...] = ("psnr", "ssim")

    def update(self, index: Tensor | int, restored: Tensor, target: Tensor) -> None:
        """Measure a batch.

        Args:
            index: indices (B,) of the images in the data set.
            restored: floating-point RGB (B, 3, H, W), which is clamped to [0, 1].
            target: RGB (B, 3, H, W): floating point in [0, 1], uint8 or uint16.
        """
        require_pair("restored", restored, "target", target)
        require_batch("target", target, channels=3)
        scaled = target.to(restored.device).float() / (_white(target) or 1)
        images = torch.stack((restored.float(), scaled)).clamp(0, 1)
        if levels := self.levels(target):
            images = (images * levels).round() / levels
        self.record(index, self.measure(*images).float())

    @property
    def directions(self) -> dict[str, str]:
        """Whether a lower or a higher score is better, by name; without PSNR and SSIM."""
        return {}

    def levels(self, target: Tensor) -> int | None:
        """Return the integer value of white for rounding; ``None`` for no rounding."""
        return 255

    @abstractmethod
    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches in [0, 1]."""


class RgbProtocol(Protocol):
    """PSNR and SSIM (Wang et al., mean over the color channels) at the bit depth of the target.

    The restored image is rounded to the levels of a uint8 or uint16 target, and not rounded for a
    floating-point target.
    """

    def levels(self, target: Tensor) -> int | None:
        """Return the maximum of the target's data type; ``None`` for floating point."""
        return _white(target)

    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches in [0, 1]."""
        return torch.stack((psnr(restored, target), ssim(restored, target)), 1)


class DeblurProtocol(Protocol):
    """GoPro and HIDE: 8-bit RGB, SSIM as in MATLAB on H x W x 3 arrays."""

    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches in [0, 1]."""
        return torch.stack((psnr(restored, target), ssim_volume(restored, target)), 1)


class DerainProtocol(Protocol):
    """Rain100H/L, Test100, Test1200 and Test2800: PSNR and SSIM of the luma of 8-bit images."""

    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches in [0, 1]."""
        return torch.stack([score(luma(restored), luma(target)) for score in (psnr, ssim)], 1)


class SiddProtocol(DeblurProtocol):
    """SIDD validation: as for GoPro, but without rounding of the output."""

    def levels(self, target: Tensor) -> int | None:
        """Return ``None``, because the output is not rounded."""
        return None


class RealBlurProtocol(Protocol):
    """RealBlur: 8-bit RGB after alignment with the target, computed on the CPU."""

    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches in [0, 1]."""
        arrays = (i.cpu().permute(0, 2, 3, 1).numpy() for i in (restored, target))
        return torch.tensor([realblur_scores(*pair) for pair in zip(*arrays, strict=True)])


PROTOCOLS: dict[str, type[Protocol]] = {
    "rgb": RgbProtocol,
    "deblur": DeblurProtocol,
    "derain": DerainProtocol,
    "realblur": RealBlurProtocol,
    "sidd": SiddProtocol,
}


class PerceptualScores(Protocol):
    """LPIPS (AlexNet) and DISTS of 8-bit RGB. Lower is better.

    Raises:
        UserError: torchvision, which contains the networks, is not installed.
    """

    columns = ("lpips", "dists")
    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
            raise UserError(
                f"perceptual=true needs torchvision: {install_hint('perceptual')}"
            ) from error
        from torchmetrics import image

        self.lpips = image.LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
        self.dists = image.DeepImageStructureAndTextureSimilarity()

    @property
    def directions(self) -> dict[str, str]:
        """Whether a lower or a higher score is better, by name."""
        return dict.fromkeys(self.columns, "lower")

    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches in [0, 1]."""
        pairs = zip(restored[:, None], target[:, None], strict=True)
        return torch.stack([torch.stack((self.lpips(*p), self.dists(*p))) for p in pairs])


def mean_scores(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each column, ignoring NaN (SSIM of images under 11 pixels)."""
    require("rows", rows, Iterable, "an iterable of scores")
    rows = list(rows)
    if not rows:
        raise UserError("rows must have the scores of at least one image")
    means = {}
    for column in rows[0]:
        values = [row[column] for row in rows if not math.isnan(row[column])]
        means[column] = math.fsum(values) / len(values) if values else math.nan
    return means


def _white(images: Tensor) -> int | None:
    """Return the integer value of white; ``None`` for floating point."""
    return None if images.is_floating_point() else torch.iinfo(images.dtype).max
