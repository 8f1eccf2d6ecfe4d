r"""Fine-tune the shipped denoising weights on images with strong JPEG compression.

    python examples/finetune_shipped.py          # embedded photographs
    python examples/finetune_shipped.py photos/  # a directory with your own clean images

The images are degraded with noise and then with JPEG compression of quality 15. The shipped weights
were trained with qualities from 70 to 100 and restore such images poorly. The script prints the
PSNR before and after fine-tuning, and writes finetuned.safetensors to the current directory. On the
command line, fine-tune on pairs with:

    mprnet_lit train experiment=finetune weights=denoise model=tiny \
        data.train.degraded=noisy data.train.target=clean
"""

import sys
from functools import partial

import torch
from lightning import Trainer

from mprnet_lit import MPRNet
from mprnet_lit.data import CleanFolder, Photos, RestorationDataModule
from mprnet_lit.data.degradations import Compose, GaussianNoise, Jpeg
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.training.schedule import WarmupCosine
from mprnet_lit.weights import Info, save


def main(arguments: list[str]) -> None:
    """Validate the shipped weights, train for 15 steps, and validate again."""
    torch.manual_seed(0)
    folder = arguments[0] if arguments else None
    data = RestorationDataModule(
        train=CleanFolder(folder) if folder else Photos("train"),
        val=CleanFolder(None) if folder else Photos("val"),  # None: hold out training images
        degradation=Compose([GaussianNoise(sigma=25), Jpeg(quality=15)]),
        patch_size=48,
        val_crop_size=96,
        batch_size=2,
        crops_per_image=6,
        num_workers=0,
    )
    model = MPRNet.from_pretrained("denoise")
    loss = MultiStageLoss(edge_weight=0.0, clamp=True)
    optimizer = partial(torch.optim.Adam, lr=2e-4)
    schedule = WarmupCosine(warmup_epochs=0, per_step=True)
    module = RestorationModule(model, loss, optimizer, schedule)
    trainer = Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    (before,) = trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    after = trainer.callback_metrics
    print(f"degraded {before['val/psnr_degraded']:.2f} dB")
    print(f"shipped {before['val/psnr']:.2f} dB, fine-tuned {after['val/psnr']:.2f} dB")
    save(model, "finetuned.safetensors", Info(task="denoise", crop=48))


if __name__ == "__main__":
    main(sys.argv[1:])
