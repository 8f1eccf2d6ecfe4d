"""Train a network on pairs of degraded and clean images, from Python.

    python examples/train_on_own_pairs.py               # pairs of embedded photographs
    python examples/train_on_own_pairs.py noisy/ clean/  # directories with your own pairs

Two files are a pair if they have the same name. A tenth of the pairs, at least one, is held out
for validation. The script trains for 16 steps, to show the API, and writes trained.safetensors to
the current directory. The command line (`mprnet_lit train data=paired`) trains for longer and
writes checkpoints.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import skimage
import torch
from lightning import Trainer
from PIL import Image

from mprnet_lit import MPRNet
from mprnet_lit.data import PairedFolders, RestorationDataModule
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.training.schedule import WarmupCosine
from mprnet_lit.weights import save


def write_pairs(degraded: str, target: str) -> None:
    """Write three embedded photographs with and without Gaussian noise."""
    rng = np.random.default_rng(0)
    for name in ("astronaut", "chelsea", "coffee"):
        photo = getattr(skimage.data, name)()[100:292, 100:292]
        noisy = (photo + rng.normal(0, 25, photo.shape)).clip(0, 255).round().astype(np.uint8)
        for directory, image in ((degraded, noisy), (target, photo)):
            Path(directory).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(Path(directory, f"{name}.png"))


def main(arguments: list[str]) -> None:
    """Train for 16 steps and print the PSNR of the held-out image."""
    degraded, target = arguments or ("pairs/noisy", "pairs/clean")
    if not arguments:
        write_pairs(degraded, target)
    torch.manual_seed(0)
    data = RestorationDataModule(
        train=PairedFolders(degraded, target),
        val=PairedFolders(None, None),  # None: hold out training pairs
        patch_size=32,
        batch_size=4,
        crops_per_image=32,
        num_workers=0,
    )
    model = MPRNet.from_size("tiny")
    model.start_from_identity()  # a short training then starts from the degraded image
    module = RestorationModule(
        model,
        MultiStageLoss(edge_weight=0.0),
        partial(torch.optim.Adam, lr=2e-3),
        WarmupCosine(warmup_epochs=0, per_step=True),
    )
    trainer = Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, num_sanity_val_steps=0
    )
    trainer.fit(module, data)
    metrics = trainer.callback_metrics
    print(f"degraded {metrics['val/psnr_degraded']:.2f} dB, restored {metrics['val/psnr']:.2f} dB")
    save(model, "trained.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
