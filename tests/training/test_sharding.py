"""Sharded training with two processes on the CPU."""

from pathlib import Path
from typing import Any

import torch
from tests.conftest import SMALLEST, Cli
from torch import Tensor

from mprnet_lit.weights import read as read_weights

COMMON = (
    *SMALLEST,
    "callbacks=ema",
    "trainer.max_epochs=2",
    "trainer.gradient_clip_val=0.1",
    "data.crops_per_image=4",
    "data.val_crop_size=32",
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
    for name, tensor in averaged.items():
        assert torch.equal(tensor, tensors(last)[f"state_dict model.{name}"])


def test_sharded_mixed_precision_trains(shell: Cli) -> None:
    outcome = shell(
        *(*SMALLEST, *SHARDED, "trainer.precision=bf16-mixed", "trainer.max_steps=3"),
        *("data.val_crop_size=32", "logger=csv", "trainer.log_every_n_steps=1"),
    )
    assert outcome.json("summary.json")["step"] == 3
    weights: Any = torch.load(outcome.file("last.ckpt"), weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in weights.values())
