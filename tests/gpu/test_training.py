"""Training on the GPU from the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Cli, Outcome
from tests.gpu.conftest import Limit

from mprnet_lit.data import RestorationDataModule
from mprnet_lit.weights import read as read_weights


def checkpoint(outcome: Outcome, pattern: str = "**/last.ckpt") -> Any:
    (path,) = outcome.folder.glob(f"runs/{pattern}")
    return torch.load(path, weights_only=True, map_location="cpu")


def assert_trained(outcome: Outcome, steps: int) -> Any:
    """Check the number of steps and that all weights are finite; return the checkpoint."""
    content = checkpoint(outcome)
    assert content["global_step"] == steps
    assert all(tensor.isfinite().all() for tensor in content["state_dict"].values())
    return content


def test_loss_scale_of_float16_is_saved_and_restored(train: Cli, device: torch.device) -> None:
    options = ("trainer.precision=16-mixed", "callbacks=ema")
    content = assert_trained(train(*options, "trainer.max_steps=4"), 4)
    if device.type == "cuda":  # Lightning trains in bfloat16 on a CPU
        assert 1 <= content["MixedPrecision"]["scale"] <= 2**16
    outcome = train(*options, "trainer.max_steps=8", f"resume='{next(Path().glob('runs/*/*'))}'")
    assert "resuming after step 4" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("callbacks=ema", "trainer.gradient_clip_val=0.1"),
        ("module.gradient_checkpointing=true", "trainer.deterministic=true"),
        ("trainer.accumulate_grad_batches=2", "optimizer=sgd", "module.channels_last=false"),
        ("task=deblur", "module.mixup_alpha=0.6", "module.mixup_after_epoch=0"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_bfloat16_training_ends(train: Cli, arguments: tuple[str, ...]) -> None:
    assert_trained(train("trainer.precision=bf16-mixed", "trainer.max_steps=4", *arguments), 4)


def test_compiled_training_ends(train: Cli, cuda: torch.device) -> None:
    options = ("module.compile=true", "trainer.precision=bf16-mixed")
    assert_trained(train(*options, "trainer.max_steps=4"), 4)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_devices_train_as_one_and_one_resumes(
    train_on_all: Callable[..., tuple[Outcome, int]], train: Cli, strategy: str
) -> None:
    options = ("trainer.precision=32-true", "trainer.gradient_clip_val=1", "callbacks=ema")
    steps = "trainer.max_steps=6"
    outcome, count = train_on_all(
        *options, steps, f"trainer.strategy={strategy}", "paths.runs=runs/all"
    )
    found = assert_trained(outcome, 6)
    weights = read_weights(outcome.file("last.ckpt"))
    assert all(p.isfinite().all() for p in weights.model.parameters())

    batch = f"data.batch_size={2 * count}"
    one = train(*options, steps, batch, "paths.runs=runs/one")
    expected = checkpoint(one, "one/**/last.ckpt")
    for name, tensor in expected["current_model_state"].items():
        difference = (found["current_model_state"][name] - tensor).abs().max()
        assert difference < 2e-3, name  # the learning rate times the number of steps

    folder = next(outcome.folder.glob("runs/all/*/*"))
    again = train(
        *options, batch, "trainer.max_steps=8", "paths.runs=runs/again", f"resume='{folder}'"
    )
    assert "resuming after step 6" in again.output
    assert checkpoint(again, "again/**/last.ckpt")["global_step"] == 8


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains_sharded_on_all_devices(
    train_on_all: Callable[..., tuple[Outcome, int]], precision: str
) -> None:
    outcome, _ = train_on_all(
        f"trainer.precision={precision}", "trainer.strategy=fsdp", "trainer.max_steps=4"
    )
    assert_trained(outcome, 4)


def test_training_resumes_within_an_epoch(train: Cli) -> None:
    options = (
        *("callbacks=ema", "trainer.precision=32-true", "trainer.deterministic=true"),
        *("schedule.warmup_epochs=0", "schedule.final_lr=2e-4", "optimizer.lr=2e-4"),
        "data.crops_per_image=4",  # ten steps in an epoch
    )
    whole = checkpoint(
        train(*options, "trainer.max_steps=16", "paths.runs=runs/whole"), "whole/**/last.ckpt"
    )
    first = train(*options, "trainer.max_steps=13", "paths.runs=runs/first")
    folder = next(first.folder.glob("runs/first/*/*"))
    second = train(*options, "trainer.max_steps=16", "paths.runs=runs/second", f"resume='{folder}'")
    assert "resuming after step 13" in second.output
    resumed = checkpoint(second, "second/**/last.ckpt")
    for part in ("state_dict", "current_model_state"):
        for name, tensor in whole[part].items():
            torch.testing.assert_close(resumed[part][name], tensor, rtol=0, atol=1e-6, msg=name)


def test_out_of_memory_suggests_smaller_micro_batches(train: Cli, limited_memory: Limit) -> None:
    large = ("data.batch_size=16", "data.patch_size=128", "data.crops_per_image=4")
    with limited_memory(0.2):
        outcome = train(*large, status=1)
    assert "out of memory with 16 patches per device" in outcome.errors
    assert "set trainer.accumulate_grad_batches=2" in outcome.errors


def test_batches_are_pinned_for_the_gpu(
    train: Cli, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = []

    def record(self: Any, batch: Any, index: int) -> Any:
        pinned.append(batch["target"].is_pinned())
        return batch

    monkeypatch.setattr(RestorationDataModule, "on_before_batch_transfer", record)
    train("data.num_workers=1", "trainer.max_steps=2")
    assert pinned and set(pinned) == {device.type == "cuda"}
