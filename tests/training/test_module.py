"""Use of the LightningModule from Python."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader

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


def test_smaller_last_batch_is_not_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []

    def record(graph: Any, inputs: Any) -> Any:
        compiled.extend(len(x) for x in inputs if x.shape[-2:] == (16, 16))
        return graph.forward

    def compile_regions(model: MPRNet) -> None:
        model.sam2.compile(backend=record, dynamic=False)

    monkeypatch.setattr(MPRNet, "compile_regions", compile_regions)
    images = torch.rand(7, 3, 16, 16)
    items: Any = [{"degraded": x, "target": x, "name": str(k)} for k, x in enumerate(images)]
    module = RestorationModule(
        MPRNet(4, 0, 0, 1), MultiStageLoss(), partial(torch.optim.SGD, lr=0.1), compile=True
    )
    trainer = lightning.Trainer(
        max_epochs=2, logger=False, accelerator="cpu", enable_model_summary=False,
        enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, DataLoader(items, batch_size=3))
    assert trainer.global_step == 6
    assert set(compiled) == {3}


@pytest.mark.parametrize(("algorithm", "limit"), [("norm", 0.01), ("value", 0.001)])
def test_gradients_of_a_fused_optimizer_are_clipped_in_bfloat16(
    tmp_path: Path, algorithm: str, limit: float
) -> None:
    clipped: list[float] = []

    class Check(lightning.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            order = 2.0 if algorithm == "norm" else math.inf
            clipped.append(float(get_total_norm(gradients, order)))

    items: Any = [{"degraded": x, "target": x, "name": "x"} for x in torch.rand(3, 3, 16, 16)]
    module = RestorationModule(
        MPRNet(4, 0, 0, 1), MultiStageLoss(), partial(torch.optim.Adam, fused=True)
    )
    lightning.Trainer(
        max_epochs=1, logger=False, accelerator="cpu", precision="bf16-mixed",
        gradient_clip_val=limit, gradient_clip_algorithm=algorithm, enable_model_summary=False,
        callbacks=[Check()],
        enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path,
    ).fit(module, DataLoader(items, batch_size=1))  # fmt: skip
    assert clipped == pytest.approx([limit] * 3, rel=1e-3)
