"""Device of the GPU tests.

Without a CUDA device, all tests of this folder are skipped. With ``MPRNET_LIT_TEST_DEVICE=cpu``,
they run on the CPU, which checks the tests; only those that need CUDA itself are skipped.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

# cuBLAS reads the variable at its first use; trainer.deterministic=true needs it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch
from tests.conftest import SMALLEST, Cli, Outcome

from mprnet_lit.models import MPRNet

_NAME = os.environ.get("MPRNET_LIT_TEST_DEVICE", "cuda")
_TRAINING = (
    f"trainer.accelerator={_NAME}",
    "data.val_crop_size=32",
    "logger=none",
    *SMALLEST,
)
_PIXELS = 2e5
"""Pixels of a batch that exceed the simulated memory limit of the CPU."""

Limit = Callable[[float], AbstractContextManager[None]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder on a machine without the device."""
    if _NAME != "cuda" or torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="torch finds no CUDA device on this machine")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device(_NAME)


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """Return the device if it is a CUDA device; skip the test otherwise."""
    if device.type != "cuda":
        pytest.skip("needs CUDA")
    return device


@pytest.fixture(autouse=True)
def _freed(device: torch.device) -> Iterator[None]:
    """Free the memory of the device after a test."""
    yield
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@pytest.fixture(params=[False, True], ids=["float32", "tf32"])
def tf32(device: torch.device, request: pytest.FixtureRequest) -> Iterator[bool]:
    """Compute with and without TF32."""
    if request.param and device.type != "cuda":
        pytest.skip("needs CUDA")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def train(device: torch.device, cli: Cli) -> Cli:
    """Train a small network on one device, in the test process."""

    def run(*arguments: str, status: int = 0) -> Outcome:
        return cli(*_TRAINING, *arguments, status=status)

    return run


@pytest.fixture
def train_on_all(device: torch.device, shell: Cli) -> Callable[..., tuple[Outcome, int]]:
    """Train a small network on all devices, two patches each, and return the number of devices."""
    count = torch.cuda.device_count() if device.type == "cuda" else 2

    def run(*arguments: str) -> tuple[Outcome, int]:
        options = (f"trainer.devices={count}", f"data.batch_size={2 * count}")
        # A process that has used CUDA can't be forked.
        warm = device.type != "cuda"
        return shell(*_TRAINING, *options, *arguments, warm=warm), count

    return run


@pytest.fixture
def limited_memory(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Limit the memory of the device within a context; the CPU refuses large batches instead."""

    @contextmanager
    def limit(gigabytes: float) -> Iterator[None]:
        if device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            total = torch.cuda.get_device_properties(device).total_memory
            used = torch.cuda.memory_reserved(device)
            torch.cuda.set_per_process_memory_fraction((used + gigabytes * 1e9) / total)
            try:
                yield
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
        else:
            forward = MPRNet.forward

            def refuse(self: MPRNet, x: Any) -> Any:
                if x[:, 0].numel() > _PIXELS:
                    raise torch.OutOfMemoryError("no memory")
                return forward(self, x)

            with monkeypatch.context() as patch:
                patch.setattr(MPRNet, "forward", refuse)
                yield

    return limit
