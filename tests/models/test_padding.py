"""Reflection padding to multiples of 8."""

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mprnet_lit.models.padding import pad_to_multiple


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 8, 16]))
def test_padding_equals_numpy_reflection_and_is_cropped_back(
    height: Any, width: Any, multiple: Any
) -> None:
    image = torch.arange(3 * height * width, dtype=torch.float32).reshape(1, 3, height, width)
    padded = pad_to_multiple(image, multiple)
    down, right = -height % multiple, -width % multiple
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, down), (0, right)), mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)
    assert torch.equal(padded[..., :height, :width], image)
