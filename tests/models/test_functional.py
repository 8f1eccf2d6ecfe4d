"""Custom backward passes agree with numeric gradients and with torch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mprnet_lit.models.functional import SharedPReLU, global_average


@pytest.fixture
def activation() -> Any:
    return SharedPReLU(init=-0.3).double()  # the learned slope may be negative


def features(dtype: Any = torch.float64, layout: Any = torch.channels_last) -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=generator)
    return x.to(dtype).contiguous(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_match_numeric_gradients(activation: Any, layout: Any) -> None:
    x = features(layout=layout)
    assert torch.autograd.gradcheck(lambda x, _: activation(x), (x, activation.weight))
    assert torch.autograd.gradcheck(global_average, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_and_gradients_match_torch(activation: Any, dtype: Any) -> None:
    activation.to(dtype)

    def outcome(prelu: Any, average: Any) -> tuple[Any, Any, Any, Any]:
        x = features(dtype)
        y = prelu(x, activation.weight)
        pooled = average(y)
        weight, of_x = torch.autograd.grad(pooled.square().sum(), (activation.weight, x))
        return y, pooled, of_x, weight

    ours = outcome(lambda x, _: activation(x), global_average)
    expected = outcome(F.prelu, lambda x: x.mean((2, 3)))
    for value, wanted in zip(ours, expected, strict=True):
        assert value.dtype == wanted.dtype == dtype
        tolerance = {torch.float32: 1e-6}.get(dtype, 2e-2)
        torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance)


def test_gradient_of_the_average_is_channels_last() -> None:
    x = features()
    (gradient,) = torch.autograd.grad(global_average(x).sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_average_of_many_float16_values_does_not_overflow() -> None:
    x = torch.full((1, 1, 512, 512), 8.0, dtype=torch.float16, requires_grad=True)
    assert global_average(x).item() == 8


@pytest.mark.parametrize("operation", [SharedPReLU().double(), global_average])
def test_second_derivative_raises(operation: Any) -> None:
    x = features()
    (once,) = torch.autograd.grad(operation(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()
