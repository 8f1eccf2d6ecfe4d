"""Train a network to remove a degradation that you define.

    python examples/custom_degradation.py

A new degradation is one class, such as Banding below. The script fine-tunes the shipped denoiser to
remove banding, and writes banding.png (left to right: clean, degraded, restored) to the current
directory. A configuration refers to the class by its import path in `_target_`: see "Add a task" in
CONTRIBUTING.md.
"""

from functools import partial

import numpy as np
import skimage
import torch
from lightning import Trainer
from PIL import Image

from mprnet_lit import MPRNet, Restorer
from mprnet_lit.data import Photos, RestorationDataModule
from mprnet_lit.data.degradations import Compose, Degradation, GaussianNoise
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.training.schedule import WarmupCosine


class Banding(Degradation):
    """Row noise of a sensor: adds a random offset to each row.

    Args:
        sigma: range of the standard deviation of the offsets, in 8-bit units.
    """

    def __init__(self, sigma: tuple[float, float] = (5, 20)) -> None:
        self.sigma = sigma

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrade an image (H, W, 3) in [0, 1]. All randomness comes from `rng`."""
        sigma = rng.uniform(*self.sigma) / 255
        return image + rng.normal(0, sigma, (len(image), 1, 1)).astype(np.float32)


def main() -> None:
    """Train for 15 steps on embedded photographs and restore a held-out photograph."""
    torch.manual_seed(0)
    banding = Compose([Banding(), GaussianNoise(sigma=5)])
    data = RestorationDataModule(
        train=Photos("train"),
        val=Photos("val"),
        degradation=banding,
        patch_size=32,
        val_crop_size=64,
        batch_size=4,
        crops_per_image=12,
        num_workers=0,
    )
    model = MPRNet.from_pretrained("denoise")
    loss = MultiStageLoss(edge_weight=0.0)
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    schedule = WarmupCosine(warmup_epochs=0, per_step=True)
    module = RestorationModule(model, loss, optimizer, schedule)
    trainer = Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, num_sanity_val_steps=0
    )
    trainer.fit(module, data)
    clean = skimage.data.coffee()[100:228, 200:328].astype(np.float32) / 255
    degraded = banding(clean, np.random.default_rng(0)).clip(0, 1)
    row = np.hstack([clean, degraded, Restorer(model)(degraded)])
    Image.fromarray((row * 255).round().astype(np.uint8)).save("banding.png")


if __name__ == "__main__":
    main()
