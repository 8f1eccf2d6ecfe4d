"""Time one training step under the options of the command line, as ratios side by side.

The variants take turns, so that whatever else the machine does hits them all alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from mprnet_lit.losses import MultiStageLoss
from mprnet_lit.models import SIZES, MPRNet

VARIANTS = {
    "float32, NCHW (baseline)": (torch.contiguous_format, False, False),
    "float32, channels_last": (torch.channels_last, False, False),
    "bf16-mixed, NCHW": (torch.contiguous_format, True, False),
    "bf16-mixed, channels_last": (torch.channels_last, True, False),
    "float32, channels_last, checkpointing": (torch.channels_last, False, True),
}


def step_of(
    size: str, shape: tuple[int, ...], order: torch.memory_format, bf16: bool, checkpointing: bool
) -> Callable[[], None]:
    torch.manual_seed(0)
    model = MPRNet.from_size(size).to(memory_format=order)
    model.set_gradient_checkpointing(checkpointing)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    loss_fn = MultiStageLoss()
    target = torch.rand(shape)
    degraded = (target + 0.1 * torch.randn(shape)).contiguous(memory_format=order)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            stages = model(degraded)
        loss_fn(stages, target).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    shape = (options.batch, 3, options.patch, options.patch)
    steps = {name: step_of(options.size, shape, *variant) for name, variant in VARIANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(options.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if round_number:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    baseline = statistics.median(next(iter(seconds.values())))
    print(f"{options.size}, batch {options.batch}, {options.patch}x{options.patch} patches, "
          f"{torch.get_num_threads()} threads, {options.rounds} rounds")  # fmt: skip
    print(f"{'':40}{'median':>9}{'spread':>9}{'speed':>8}")
    for name, times in seconds.items():
        median = statistics.median(times)
        spread = (max(times) - min(times)) / median
        print(f"{name:40}{median:8.2f}s{spread:8.0%}{baseline / median:7.2f}x")


if __name__ == "__main__":
    main()
