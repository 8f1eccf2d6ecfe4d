"""Precision and memory settings that depend on the hardware."""

import multiprocessing
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from tests.conftest import Cli

from mprnet_lit.data import CleanFolder, RestorationDataModule
from mprnet_lit.utils import hardware
from mprnet_lit.utils.hardware import (
    core_share,
    fast_precision,
    keep_freed_memory,
    return_freed_memory,
    trim_memory,
)

FAULTS = """
import resource, threading, numpy, psutil, torch
from mprnet_lit.utils.hardware import keep_freed_memory, trim_memory
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.zeros(10_000_000, requires_grad=True)  # 40 MB: not reused by default
    torch.sin(torch.sin(x)).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step()
print(step() + step())
assert keep_freed_memory()
for _ in range(30):  # until the heap has grown to its final size
    step()
print(step() + step())
trim_memory()
before = psutil.Process().memory_info().rss
thread = threading.Thread(target=numpy.ones, args=(50_000_000, numpy.uint8))
thread.start()
thread.join()
trim_memory()
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.parametrize(
    ("bf16", "amx", "expected"),
    [
        (True, False, "bf16-mixed"),
        (False, True, "bf16-mixed"),
        (False, False, "32-true"),
    ],
)
def test_cpu_uses_bfloat16_if_it_has_instructions(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, amx: bool, expected: str
) -> None:
    found = {"avx512_bf16": bf16, "amx_tile": amx}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert fast_precision(torch.device("cpu"))[0] == expected


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bf16-mixed"), ((7, 5), "32-true")])
def test_gpu_uses_bfloat16_from_ampere_on(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    precision, reason = fast_precision(torch.device("cuda"))
    assert precision == expected
    assert "Some GPU" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_tensors_reuse_freed_memory_which_is_trimmed_in_all_threads() -> None:
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    default, keeping, kept = map(int, done.stdout.split())
    assert keeping < 0.2 * default
    assert kept < 10_000_000


@pytest.mark.parametrize("bf16", [True, False])
def test_training_prints_the_precision_that_suits_the_cpu(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bf16})
    output = cli("recipe=cpu_denoise", "debug=fast").output.replace("\n", " ")
    advice = "has bfloat16 instructions: consider trainer.precision=bf16-mixed"
    fact = advice if bf16 else "has no bfloat16 instructions"
    assert f"precision 32-true (this CPU {fact});" in output


def test_data_workers_return_the_memory_of_large_images() -> None:
    def work() -> None:
        keep_freed_memory()
        return_freed_memory()
        before = psutil.Process().memory_info().rss
        for _ in range(3):
            np.ones(100_000_000, np.uint8)
            np.ones(50_000_000, np.uint8)
        kept = psutil.Process().memory_info().rss - before
        assert kept < 30_000_000, kept  # touched pages of libraries

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize("keep", [False, True])
def test_freed_memory_between_blocks_in_use_is_trimmed(keep: bool) -> None:
    def work() -> None:
        if keep:
            keep_freed_memory()
        resident = psutil.Process().memory_info
        blocks = [np.ones(100_000, np.uint8) for _ in range(1000)]
        del blocks[:-1]
        before = resident().rss
        assert trim_memory()
        assert before - resident().rss > 90_000_000

    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0


@pytest.mark.parametrize("nodes", [1, 8, 64])
@pytest.mark.parametrize(
    ("environment", "devices", "cores", "workers"),
    [
        ({}, 1, 128, 8),
        ({}, 8, 128, 8),  # processes that Lightning starts
        ({}, 8, 48, 4),
        ({}, 8, 16, 0),
        ({"LOCAL_WORLD_SIZE": "8"}, 8, 48, 4),
        ({"LOCAL_WORLD_SIZE": "8"}, 1, 48, 4),  # eight trainings that torchrun starts
        ({"SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "48"}, 8, 48, 4),
        ({"SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "48"}, 8, 6, 4),  # bound to 6 cores
        ({"SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "48"}, 8, 1, 0),
        ({"SLURM_NTASKS_PER_NODE": "4(x2)", "LOCAL_WORLD_SIZE": ""}, 4, 32, 6),
    ],
)
def test_workers_share_the_cores_of_a_machine_whatever_the_number_of_machines(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    devices: int,
    cores: int,
    workers: int,
    nodes: int,
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"WORLD_SIZE": str(8 * nodes)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hardware, "cores", lambda: cores)
    data = RestorationDataModule(CleanFolder("x"), CleanFolder(None), patch_size=8)
    trainer = SimpleNamespace(num_devices=devices, world_size=devices * nodes)
    data.trainer = trainer  # type: ignore[assignment]
    assert data.workers()[0] == workers


def test_number_of_workers_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "cores", lambda: 128)
    assert core_share() == (128, "128 CPU cores")
    assert core_share(8) == (16, "16 CPU cores for each of the 8 processes on this machine")
    data = RestorationDataModule(CleanFolder("x"), CleanFolder(None), patch_size=8, num_workers=3)
    assert data.workers() == (3, "data.num_workers")


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [(500, 300, 100, 300), (500, 600, 50, 0), ("max", 600, 50, None), (10**15, 0, 0, None)],
)
def test_free_memory_is_bounded_by_the_control_group(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int | str,
    used: int,
    cached: int,
    free: float | None,
) -> None:
    """``None`` stands for the free memory of the machine, here 1 GB."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\n")
    monkeypatch.setattr(hardware, "Path", lambda path: tmp_path)
    memory = psutil.virtual_memory()._replace(available=10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert hardware.free_bytes(torch.device("cpu")) == (1e9 if free is None else free)
