"""Optimizers built from the configuration."""

from typing import Any

import pytest
from tests.config.test_config import compose

from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.training.build import build_model, build_module


def optimizer(*overrides: str) -> Any:
    register_resolvers()
    config = compose("model=tiny", "trainer=cpu", *overrides)
    module = build_module(config, build_model(config).model)
    return module.make_optimizer(module.model.parameters())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_adam_is_fused_except_with_clipping_of_scaled_gradients(precision: str) -> None:
    chosen = f"trainer.precision={precision}"
    assert optimizer(chosen).defaults["fused"]
    clipped = optimizer(chosen, "trainer.gradient_clip_val=1.0").defaults["fused"]
    assert bool(clipped) == (precision != "16-mixed")


def test_configured_implementation_of_the_optimizer_is_used() -> None:
    assert optimizer("optimizer._target_=torch.optim.AdamW").defaults["fused"]
    assert optimizer("+optimizer.fused=false").defaults["fused"] is False
    assert optimizer("+optimizer.foreach=true").defaults["fused"] is None


def test_optimizer_without_fused_implementation() -> None:
    assert "fused" not in optimizer("optimizer._target_=torch.optim.NAdam").defaults
