"""Sharded training with two processes on the CPU."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from tests.conftest import Cli
from torch import Tensor
from torch.utils.data import DataLoader

from mprnet_lit.models import MPRNet
from mprnet_lit.training.callbacks import SkipNonFinite
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.training.sharding import ShardedStrategy, gathered, local
from mprnet_lit.weights import read as read_weights

COMMON = (
    "callbacks=ema",
    "~callbacks.best",
    "~callbacks.panels",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=1",
    "trainer.gradient_clip_val=0.1",
    "data.num_workers=0",
    'callbacks.last.filename="{epoch}"',
    "callbacks.last.save_top_k=-1",
    "logger=none",
)
SHARDED = ("trainer.strategy=fsdp", "trainer.devices=2")


def tensors(path: Path) -> dict[str, Tensor]:
    """Return weights, averaged weights and moments of a checkpoint by name."""
    content = torch.load(path, weights_only=True)
    found = {
        f"{part} {name}": tensor
        for part in ("state_dict", "current_model_state")
        for name, tensor in content[part].items()
        if name.startswith("model.")
    }
    (states,) = content["optimizer_states"]
    for index, state in states["state"].items():
        found |= {f"{index} {name}": tensor for name, tensor in state.items()}
    return found


def assert_close(path: Path, expected: dict[str, Tensor]) -> None:
    found = tensors(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-5, msg=name)


def test_sharded_training_equals_one_device_and_resumes_on_any_number(shell: Cli) -> None:
    def train(name: str, *arguments: str) -> list[Path]:
        outcome = shell(*COMMON, f"paths.runs=runs/{name}", *arguments)
        return sorted(outcome.folder.glob(f"runs/{name}/**/epoch=*.ckpt"))

    first, expected_path = train("one")
    expected = tensors(expected_path)
    middle, last = train("sharded", *SHARDED)
    assert_close(last, expected)
    assert_close(train("sharded_then_one", f"resume='{middle}'")[-1], expected)
    assert_close(train("one_then_sharded", f"resume='{first}'", *SHARDED)[-1], expected)

    averaged = read_weights(last).model.state_dict()
    saved = tensors(last)
    for name, tensor in averaged.items():
        assert torch.equal(tensor, saved[f"state_dict model.{name}"])


def test_sharded_mixed_precision_trains(shell: Cli) -> None:
    outcome = shell(
        *(*SHARDED, "trainer.precision=bf16-mixed", "trainer.max_steps=3", "data.num_workers=0"),
        *("trainer.limit_val_batches=1", "logger=csv", "trainer.log_every_n_steps=1"),
    )
    assert outcome.json("summary.json")["step"] == 3
    weights: Any = torch.load(outcome.file("last.ckpt"), weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


class Whole(RestorationModule):
    """Module of which a forked process can return the weights."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return gathered(dict(super().state_dict(*args, **kwargs)))


class States(Callback):
    """Prints in each process whether the step changed the weights, and whether they are finite."""

    def __init__(self) -> None:
        self.before: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        after = [local(p.detach()).clone() for p in module.parameters()]
        changed = not all(map(torch.equal, after, self.before)) if self.before else True
        finite = all(bool(p.isfinite().all()) for p in after)
        place = f"process {trainer.global_rank} step {trainer.global_step}"
        print(f"{place}: {changed} {finite}\n", end="")
        self.before = after


@pytest.mark.parametrize("scaled", [False, True], ids=["32-true", "16-mixed"])
def test_sharded_training_skips_a_non_finite_step_in_all_processes(
    scaled: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[3] = math.nan  # of the second process in the second step
    items: Any = [{"degraded": x, "target": x, "name": str(k)} for k, x in enumerate(images)]
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0))
    module = Whole(MPRNet(4, 0, 0, 1), MultiStageLoss(), partial(torch.optim.Adam, fused=True))
    Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy=ShardedStrategy(start_method="fork"),
        plugins=[precision] if scaled else None, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[SkipNonFinite(tmp_path), States()],
    ).fit(module, DataLoader(items, batch_size=1))  # fmt: skip
    printed = capfd.readouterr()
    for process in range(2):
        for step, changed in (1, True), (2, False), (3, True):
            assert f"process {process} step {step}: {changed} True\n" in printed.out
    assert printed.err.count("step 2 was skipped: its loss is not finite (images: 3)") == 1
