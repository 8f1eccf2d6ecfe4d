"""Restorer on the GPU, compared with float32 on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import PHOTOS, smallest_network
from tests.gpu.conftest import Limit

from mprnet_lit import MPRNet, Restorer, weights
from mprnet_lit.export import to_onnx
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Weights

_TASKS = ("deblur", "denoise", "derain")
_OPTIONS: dict[str, dict[str, Any]] = {
    "whole": {},
    "tlc": {"tlc": True},
    "tiles": {"tile": 64, "tile_batch": 3},
    "self_ensemble": {"self_ensemble": True},
    "all": {"tile": 96, "tlc": True, "self_ensemble": True},
}


@pytest.fixture(scope="module")
def photo() -> NDArray[Any]:
    crop = Image.open(PHOTOS / "coffee.png").convert("RGB").crop((100, 80, 281, 199))
    noise = np.random.default_rng(0).normal(0, 10, (119, 181, 3))
    return (np.asarray(crop) + noise).clip(0, 255).astype(np.uint8)


def levels(found: NDArray[Any], expected: NDArray[Any]) -> int:
    """Return the largest difference of two images in levels of 255."""
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


@pytest.mark.parametrize("options", _OPTIONS.values(), ids=_OPTIONS.keys())
def test_options_agree_with_the_cpu(
    photo: NDArray[Any], device: torch.device, options: dict[str, Any]
) -> None:
    expected = Restorer("denoise", device="cpu", **options)(photo)
    found = Restorer("denoise", device=str(device), **options)(photo)
    assert levels(found, expected) <= 1


@pytest.mark.parametrize("task", _TASKS)
def test_precisions_agree_with_the_cpu(
    photo: NDArray[Any], device: torch.device, task: str
) -> None:
    expected = Restorer(task, device="cpu")(photo)
    for precision, most in ("32", 1), ("16", 2), ("bf16", 6):
        found = Restorer(task, device=str(device), precision=precision)(photo)  # type: ignore[arg-type]
        assert levels(found, expected) <= most, precision
        assert np.abs(found.astype(int) - expected.astype(int)).mean() < 1, precision


def test_compiled_restorer_agrees_with_the_cpu(photo: NDArray[Any], cuda: torch.device) -> None:
    network = smallest_network()
    compiled = Restorer(network, device=str(cuda), precision="bf16", compile=True)
    for image in photo, photo[:64, :96]:  # dynamic shapes
        assert levels(compiled(image), Restorer(network, device="cpu")(image)) <= 6


def test_tensors_on_the_device_are_accepted(device: torch.device) -> None:
    batch = torch.rand(2, 3, 20, 28, device=device)
    network = smallest_network()
    found = Restorer(network, device=str(device))(batch)
    expected = Restorer(network, device="cpu")(batch.cpu())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-3)


def test_results_are_not_page_locked(device: torch.device) -> None:
    batch = torch.rand(1, 3, 20, 28)
    restorer = Restorer(smallest_network(), device=str(device))
    assert not restorer(batch).is_pinned()
    assert not any(stage.is_pinned() for stage in restorer.restore(batch))


def test_out_of_memory_suggests_tiles_that_fit(device: torch.device, limited_memory: Limit) -> None:
    network = MPRNet.from_size("small") if device.type == "cuda" else smallest_network()
    image = np.zeros((1024, 1536, 3) if device.type == "cuda" else (384, 640, 3), np.uint8)
    with limited_memory(0.7):
        whole = Restorer(network, device=str(device))
        with pytest.raises(UserError, match="out of GPU memory with tile=None: set tile='auto'"):
            whole(image)
        assert Restorer(network, tile=128, device=str(device))(image).shape == image.shape


def test_auto_tiles_respect_the_memory_limit(device: torch.device, limited_memory: Limit) -> None:
    network = MPRNet.from_size("small") if device.type == "cuda" else smallest_network()
    image = np.random.default_rng(0).integers(0, 256, (640, 900, 3), dtype=np.uint8)
    gigabytes = 0.3 if device.type == "cuda" else 0.02
    restorer = Restorer(network, tile="auto", memory_gb=gigabytes, device=str(device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    with limited_memory(2 * gigabytes):
        found = restorer(image)
    if device.type == "cuda":
        assert torch.cuda.max_memory_allocated(device) - before <= gigabytes * 1e9
    side = restorer._tile(640, 904)
    assert side < 640
    assert levels(found, Restorer(network, tile=side, device=str(device))(image)) <= 1


def test_exported_network_agrees_with_the_cpu(
    photo: NDArray[Any], device: torch.device, tmp_path: Path, convert_once: None
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if (
        device.type == "cuda"
        and "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    ):
        pytest.skip("onnxruntime-gpu is not installed")
    network = smallest_network()
    path = tmp_path / "network.onnx"
    path.write_bytes(to_onnx(Weights(network, weights.Info(task="denoise"))))
    restorer = Restorer(path, device=str(device))
    assert restorer.device.type == device.type, restorer.runtime
    assert levels(restorer(photo), Restorer(network, device="cpu")(photo)) <= 1
