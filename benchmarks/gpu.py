"""Measure the table of docs/performance_gpu.json on a CUDA GPU (some minutes).

python -m benchmarks.gpu                         compare with the plain baseline
python -m benchmarks.gpu --reference FOLDER      compare with a checkout of the reference code
python -m benchmarks.gpu --size small            measure the training step of one size only
python -m benchmarks.gpu --device cpu --quick    trial run with tiny sizes, without a GPU

Each time is the median of rounds after a warm-up, measured by device events on a GPU. A reference
checkout has one folder per task (Deblurring/MPRNet.py, ...) and runs in its own settings: float32
with TF32 convolutions, cudnn.benchmark, NCHW and eager mode.
"""

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu_jobs import (
    Sizes,
    graphed_step,
    our_inference,
    our_step,
    restore_folder,
    their_inference,
    their_step,
    train,
)
from benchmarks.gpu_timing import measure
from benchmarks.interleave import Figures, Job
from benchmarks.network import pad_channels

from mprnet_lit.models import SIZES
from mprnet_lit.utils.atomic import write_atomic

OUTPUT = Path("docs/performance_gpu.json")
FULL = Sizes(
    steps=(("base", 16, 128), ("large", 4, 256), ("small", 16, 256)),
    inference="large", height=720, width=1280, photos=200, rounds=15, steps_of_fit=200,
)  # fmt: skip
QUICK = Sizes(
    steps=(("tiny", 2, 16),),
    inference="tiny", height=24, width=40, photos=2, rounds=2, steps_of_fit=4,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="reference checkout")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing is written")
    parser.add_argument("--no-compile", action="store_true", help="skip the compiled variants")
    parser.add_argument("--size", choices=list(SIZES), help="training steps of this size only")
    parser.add_argument("--output", type=Path, help=f"JSON file, by default {OUTPUT}")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "python -m benchmarks.gpu needs a CUDA device, and torch finds none on this machine: "
            "add --device cpu --quick for a trial run"
        )
    if options.reference and not (options.reference / "Denoising" / "MPRNet.py").is_file():
        sys.exit(
            f"--reference={options.reference} has no Denoising/MPRNet.py: pass the root of a "
            "checkout of the reference implementation"
        )
    sizes = QUICK if options.quick else FULL
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = True  # the default of torch and of the reference
    record = description(device, options.reference)
    run = partial(run_table, record["tables"], device, sizes.rounds)
    for name, batch, patch in sizes.steps:
        if options.size not in (None, name):
            continue
        step = partial(our_step, name, batch, patch, device)
        makers: dict[str, Callable[[], Job]] = {
            "reference": partial(their_step, name, batch, patch, device, options.reference),
            "bf16, checkpointing": partial(step, checkpointing=True),
        }
        graph = partial(graphed_step, name, batch, patch, device)
        variants: dict[str, dict[str, bool]] = {"": {}}
        if not options.no_compile:
            variants[", compiled"] = {"compiled": True}
            makers["bf16, compiled with resampling"] = partial(step, compiled=True, resampling=True)
        for suffix, chosen in variants.items():
            makers[f"bf16{suffix}"] = partial(step, **chosen)
            makers[f"bf16{suffix}, CUDA graph"] = partial(graph, **chosen)
            if pad_channels(SIZES[name]) != SIZES[name]:
                makers[f"bf16{suffix}, padded channels"] = partial(step, padded=True, **chosen)
        run(f"training step: {name}, {batch} patches of {patch}x{patch}", makers)
        save(record, options)
    if options.size:
        return
    image = (sizes.inference, sizes.height, sizes.width, device)
    restore = partial(our_inference, *image)
    makers = {"reference": partial(their_inference, *image, options.reference), "bf16": restore}
    if not options.no_compile:
        makers["bf16, compiled"] = partial(restore, compiled=True)
    shape = f"{sizes.width}x{sizes.height}"
    run(f"inference: {sizes.inference}, {shape}, uint8 array to uint8 array", makers)
    with tempfile.TemporaryDirectory() as folder:
        restored = restore_folder(sizes, device, Path(folder))
        trained = train(sizes, device, Path(folder))
    record["tables"][f"mode=restore: {sizes.photos} PNG files of {shape}"] = restored
    record["tables"][f"training loop: {sizes.steps[0][0]}"] = trained
    print(json.dumps([restored, trained], indent=1))
    save(record, options)


def save(record: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the tables so far; a trial run writes nothing unless it has an output file."""
    if options.output or not (options.quick or options.device == "cpu"):
        content = json.dumps(record, indent=1, allow_nan=False) + "\n"
        write_atomic(options.output or OUTPUT, content.encode())


def description(device: torch.device, reference: Path | None) -> dict[str, Any]:
    """Return the card, the date, the versions and the kind of reference, without figures."""
    return {
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else "none (CPU)",
        "date": datetime.date.today().isoformat(),
        "versions": {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        },
        "reference": "reference implementation" if reference else "plain baseline",
        "tables": {},
    }


def run_table(
    tables: dict[str, Any],
    device: torch.device,
    rounds: int,
    title: str,
    makers: dict[str, Callable[[], Job]],
) -> None:
    """Measure variants one after another, and add their table; the first one is the reference.

    The table has no row for a variant that fails, such as one that runs out of memory.
    """
    timings: dict[str, Figures] = {}
    for name, make in makers.items():
        try:
            timings[name] = measure(make, device, rounds)
        except RuntimeError as error:
            if name == "reference":
                raise
            print(f"{title}, {name}, failed: {error}", file=sys.stderr)
    first = timings["reference"]
    tables[title] = {name: row(timing, first) for name, timing in timings.items()}
    print(f"\n**{title}**\n\n| | median | speedup | memory | ratio | first call |")
    print("|---|---|---|---|---|---|")
    for name, figures in tables[title].items():
        print(
            f"| {name} | {figures['median_ms']:.1f} ms | {figures['speedup']:.2f} | "
            f"{figures['peak_gb']:.2f} GB | {figures['peak_ratio']:.2f} | "
            f"{figures['first_call_s']:.1f} s |",
            flush=True,
        )


def row(timing: Figures, reference: Figures) -> dict[str, float]:
    """Return the figures of a variant and their ratios to the reference."""
    return {
        "median_ms": 1e3 * timing.median,
        "spread": timing.spread,
        "speedup": reference.median / timing.median,
        "peak_gb": timing.peak / 1e9,
        "peak_ratio": timing.peak / reference.peak if reference.peak else 0.0,
        "first_call_s": timing.setup,
    }


if __name__ == "__main__":
    main()
