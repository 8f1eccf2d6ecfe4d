"""Jobs of the benchmark on the GPU."""

import torch
from benchmarks.gpu_jobs import graphed_step


def test_step_is_captured_as_a_cuda_graph(device: torch.device) -> None:
    job = graphed_step("tiny", 2, 16, device)
    for _ in range(2):
        job()
    if device.type == "cuda":
        torch.cuda.synchronize()
