"""Measure speed and memory against the baseline, and write docs/performance.*.

python -m benchmarks                    all sections except time to quality; takes 15 minutes
python -m benchmarks --only training --rounds 15
python -m benchmarks --quality 10       also time to quality, with 10 minutes per variant
python -m benchmarks --device cuda --size base --batch 16 --patch 256 --side 720
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks import data_loading, degrading, network, quality, startup
from benchmarks.interleave import interleave
from benchmarks.report import machine, table, update

from mprnet_lit.models import SIZES

SECTIONS = ("training", "memory", "inference", "data", "degrading", "startup")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--quality", type=float, metavar="MINUTES")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--side", type=int, default=256, help="side of the restored image")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path("docs/performance.json"))
    options = parser.parse_args()
    size, device, rounds = options.size, options.device, options.rounds
    patches = f"{options.batch} patches of {options.patch}x{options.patch}"
    twice = 2 * options.patch

    def training() -> dict[str, Any]:
        makers = network.steps(size, (options.batch, 3, options.patch, options.patch), device)
        return table(interleave(makers, rounds), title=f"One training step: {size}, {patches}")

    def memory() -> dict[str, Any]:
        makers = network.steps(size, (options.batch, 3, twice, twice), device)
        title = f"Memory of training: {size}, {options.batch} patches of {twice}x{twice}"
        return table(interleave(makers, 5), title=title)

    def inference() -> dict[str, Any]:
        makers = network.inferences(size, (1, 3, options.side, options.side), device)
        title = f"One inference: {size}, {options.side}x{options.side}"
        return table(interleave(makers, rounds), title=title)

    def data() -> dict[str, Any]:
        found = data_loading.measure()
        title = f"{found['patches']} patches of 256x256 from PNG pairs of 1280x720"
        return table(found["figures"], title=title) | {"bytes": found["bytes"]}

    def degrade() -> dict[str, Any]:
        return degrading.measure(device)

    def start() -> dict[str, Any]:
        return table(startup.measure(), title="Duration of a command")

    measured: dict[str, Callable[[], dict[str, Any]]] = dict(
        zip(SECTIONS, (training, memory, inference, data, degrade, start), strict=True)
    )
    for section in options.only:
        update(options.output, section, measured[section]())
    if options.quality:
        variants = quality.measure(options.quality, size, options.batch, options.patch)
        update(options.output, "quality", quality.figures(variants))
    update(options.output, "machine", machine(torch.device(device)))


if __name__ == "__main__":
    main()
