"""Panels of validation images: degraded, each stage, target."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mprnet_lit.images.reading import to_uint8, write_png
from mprnet_lit.metrics import psnr, ssim
from mprnet_lit.training.module import Batch
from mprnet_lit.training.records import attempt, record_image, record_table
from mprnet_lit.utils.checks import require, require_number
from mprnet_lit.utils.compat import logged_step

TITLES = ("degraded", "stage 1", "stage 2", "stage 3", "target")
COLUMNS = ("name", "PSNR degraded", "PSNR", "SSIM degraded", "SSIM", *TITLES)
"""Columns of the table: PSNR in dB and SSIM of the degraded image and of the last stage."""
_GAP, _CAPTION, _TILE = 6, 24, 256
_COLUMN = 150
"""Minimum width of a column, so that its caption fits."""


class Panels(Callback):
    """Writes and logs a panel of the first validation images after each validation.

    wandb also gets a table with the name, the images and the scores of each row.

    Args:
        folder: directory for ``epoch_0001.png`` and so on, and ``latest.png``.
        count: number of images (rows of the panel).
    """

    def __init__(self, folder: str | Path, count: int = 3) -> None:
        require("folder", folder, (str, Path), "the name of a folder")
        require_number("count", count, low=1)
        self.folder = Path(folder)
        self.count = count
        self.rows: list[tuple[Tensor, ...]] = []
        self.names: list[str] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        """Store the images of the first batches."""
        if trainer.is_global_zero and len(self.rows) < self.count:
            images = (*outputs.values(), batch["target"])
            self.rows.append(tuple(i[0].detach().float().cpu() for i in images))
            self.names.append(batch["name"][0])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, write and log the panel."""
        if not self.rows:
            return
        panel = draw_panel(self.rows)
        validated = list(zip(self.names, self.rows, strict=True))
        self.rows, self.names = [], []

        def scored() -> list[list[Any]]:
            return [[name, *_scores(row), *map(_tile, row)] for name, row in validated]

        write_png(self.folder / f"epoch_{trainer.current_epoch + 1:04d}.png", panel)
        write_png(self.folder / "latest.png", panel)
        for logger in trainer.loggers:
            step = logged_step(trainer)
            attempt(logger, record_image, logger, "val/panel", panel, step)
            attempt(logger, record_table, logger, "val/images", COLUMNS, scored, step)


def draw_panel(rows: Sequence[tuple[Tensor, ...]]) -> NDArray[np.uint8]:
    """Draw rows of images with their PSNR.

    Args:
        rows: degraded image, three stages and target, each (3, H, W) in [0, 1]. The panel shows
            the central 256 pixels of larger images.

    Returns:
        Panel (H, W, 3).
    """
    tiles = [[_tile(image) for image in row] for row in rows]
    widths = [max(_COLUMN, *(row[k].shape[1] for row in tiles)) for k in range(len(TITLES))]
    heights = [row[0].shape[0] + _CAPTION + _GAP for row in tiles]
    size = (sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    top = _GAP
    for row, images, height in zip(rows, tiles, heights, strict=True):
        left = _GAP
        for title, image, tile, width in zip(TITLES, row, images, widths, strict=True):
            canvas.paste(Image.fromarray(tile), (left, top + _CAPTION))
            caption = title
            if image is not row[-1]:
                caption += f"  {psnr(image[None], row[-1][None]).item():.2f} dB"
            draw.text((left, top + 2), caption, "black", font)
            left += width + _GAP
        top += height
    return np.asarray(canvas, dtype=np.uint8)


def _scores(row: Sequence[Tensor]) -> list[float]:
    """Return the scores of a row in the order of ``COLUMNS``."""
    pairs = [(image[None], row[-1][None]) for image in (row[0], row[-2])]
    return [score(*pair).item() for score in (psnr, ssim) for pair in pairs]


def _tile(image: Tensor) -> NDArray[np.uint8]:
    height, width = image.shape[-2:]
    top, left = max(height - _TILE, 0) // 2, max(width - _TILE, 0) // 2
    center = image[:, top : top + _TILE, left : left + _TILE]
    return to_uint8(center.permute(1, 2, 0).numpy())
