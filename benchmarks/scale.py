"""Measure the work around the network at three sizes each; write it into docs/performance.md.

python -m benchmarks.scale                       all parts (about 10 minutes)
python -m benchmarks.scale reports video         some parts; the others keep their figures
python -m benchmarks.scale --before CHECKOUT     also an earlier version, alternating with this one
"""

import argparse
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from benchmarks.report import machine, put_section

PARTS = (
    "data_folders", "decoded_images", "restoring", "large_photos", "video", "reports", "serving",
    "shards",
)  # fmt: skip
"""Modules of ``benchmarks.scaling``: a title, sizes, sizes for an earlier version, ``measure``."""
_ROOT = Path(__file__).parent.parent
_DOCUMENT = _ROOT / "docs" / "performance.md"


def main() -> None:
    """Measure parts in new processes, and write the tables after each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {', '.join(PARTS)}")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="an earlier version")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if options.before and not (options.before / "src" / "mprnet_lit").is_dir():
        parser.error(f"--before={options.before} has no folder src/mprnet_lit")
    if options.size is not None:  # in a new process
        print(json.dumps(_part(options.parts[0]).measure(options.size)))
        return
    path = _DOCUMENT.with_name("performance_scale.json")
    record = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    for name in options.parts or PARTS:
        part = _part(name)
        versions: dict[str, dict[str, Any]] = {"before": {}, "now": {}}
        for size in part.SIZES:
            if options.before and size in part.BEFORE:
                versions["before"][str(size)] = _measure(name, size, options.before)
            versions["now"][str(size)] = _measure(name, size, _ROOT)
        on = machine(torch.device("cpu"))
        record["parts"][name] = {"title": part.TITLE, "machine": on, **versions}
        path.write_text(json.dumps(record, indent=1) + "\n")
        print("\n".join(_table(record["parts"][name])), flush=True)
        measured = [record["parts"][key] for key in PARTS if key in record["parts"]]
        lines = [line for each in measured for line in _table(each)]
        put_section(_DOCUMENT, "scale", lines[:-1])


def _part(name: str) -> Any:
    return import_module(f"benchmarks.scaling.{name}")


def _measure(name: str, size: int, checkout: Path) -> dict[str, float]:
    """Measure a part at a size with the package of a checkout, in a new process."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")}
    command = [sys.executable, "-m", "benchmarks.scale", name, "--size", str(size)]
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _table(part: dict[str, Any]) -> list[str]:
    """Return the lines of a table: a row per figure, a column per size, ``before -> now``."""
    before, now = part["before"], part["now"]
    labels = dict.fromkeys(label for figures in now.values() for label in figures)
    heads = (f"{int(size):,}" for size in now)
    lines = [
        f"**{part['title']}**",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(now) + 1) + "|",
    ]
    for label in labels:
        cells = []
        for size, figures in now.items():
            cell = _number(figures[label]) if label in figures else "-"
            if label in before.get(size, {}) and label in figures:
                cell = f"{_number(before[size][label])} → {cell}"
            cells.append(cell)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _number(value: float) -> str:
    """Return a figure with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
