"""Use of the LightningModule from Python."""

from functools import partial
from pathlib import Path

import lightning
import pytest
import torch

from mprnet_lit.data import Photos, RestorationDataModule
from mprnet_lit.data.degradations import GaussianNoise
from mprnet_lit.models import MPRNet
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule


def test_validation_before_training_does_not_change_the_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = RestorationDataModule(
        train=Photos("train"), val=Photos("val"), degradation=GaussianNoise(sigma=25),
        patch_size=16, val_crop_size=32, batch_size=1, num_workers=0,
    )  # fmt: skip
    module = RestorationModule(
        MPRNet(4, 0, 0, 1), MultiStageLoss(), partial(torch.optim.SGD, lr=1e-12)
    )
    trainer = lightning.Trainer(
        max_epochs=1, limit_train_batches=1, limit_val_batches=2, logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path,
    )  # fmt: skip
    (before,) = trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    after = trainer.callback_metrics
    assert before["val/psnr"] > 0
    for name in ("val/psnr", "val/ssim", "val/psnr_degraded"):
        assert float(after[name]) == pytest.approx(before[name], abs=1e-4)
