"""Write results as JSON, as the tables of docs/performance.md and as a plot."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from benchmarks.interleave import Figures

MARK = "<!-- {}: written by python -m benchmarks -->"


def table(figures: Mapping[str, Figures], title: str) -> dict[str, Any]:
    """Return a table of the measurements, with ratios to the first row."""
    first = next(iter(figures.values()))
    rows = {
        name: {
            "median_s": f.median,
            "spread": f.spread,
            "times_as_fast": first.median / f.median,
            "peak_mb": f.peak / 1e6,
            "peak_ratio": f.peak / first.peak if first.peak else None,
            "setup_s": f.setup,
            "seconds": f.seconds,
        }
        for name, f in figures.items()
    }
    return {"title": title, "rows": rows}


def machine(device: torch.device) -> dict[str, Any]:
    """Return a description of the machine and the library versions."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (x for x in flags.splitlines() if x.startswith("model name")), platform.processor()
    )
    return {
        "cpu": model.partition(":")[2].strip() or model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_in_hardware": "avx512_bf16" in flags or "amx_bf16" in flags,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in ("torch", "lightning", "numpy", "openvino")},
    }


def update(path: Path, section: str, figures: dict[str, Any]) -> None:
    """Update a section of the JSON file and of the document and plot in the same directory."""
    record = json.loads(path.read_text()) if path.exists() else {}
    record[section] = figures
    path.write_text(json.dumps(record, indent=1, allow_nan=False, default=str) + "\n")
    document = path.with_suffix(".md")
    if "rows" in figures:
        lines = _markdown(figures)
        print("\n".join(lines), flush=True)
        put_section(document, section, lines)
    _plot(record, path.with_suffix(".png"))


def _markdown(figures: dict[str, Any]) -> list[str]:
    memory = any(row["peak_mb"] for row in figures["rows"].values())
    lines = [
        f"**{figures['title']}**",
        "",
        "| | median | spread | speedup |" + (" memory | memory ratio |" if memory else ""),
        "|---|---|---|---|" + ("---|---|" if memory else ""),
    ]
    for name, row in figures["rows"].items():
        line = f"| {name} | {row['median_s']:.3f} s | {row['spread']:.0%} | "
        line += f"{row['times_as_fast']:.2f} |"
        if memory:
            line += f" {row['peak_mb']:.0f} MB | {row['peak_ratio']:.2f} |"
        lines.append(line)
    return lines


def put_section(document: Path, section: str, lines: list[str]) -> None:
    """Replace the lines between the marks of a section, if the document has them."""
    if not document.exists():
        return
    begin, end = MARK.format(section), MARK.format(f"end of {section}")
    before, found, rest = document.read_text().partition(begin)
    if found:
        after = rest.partition(end)[2]
        document.write_text("\n".join([before + begin, "", *lines, "", end + after]))


def _plot(record: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sections = [s for s in ("training", "inference") if s in record]
    curves = record.get("quality")
    count = len(sections) + bool(curves)
    if not count:
        return
    figure, axes = plt.subplots(1, count, figsize=(5.2 * count, 3.6), squeeze=False)
    for axis, section in zip(axes[0], sections, strict=False):
        rows = record[section]["rows"]
        ratios = [row["times_as_fast"] for row in rows.values()]
        bars = axis.barh(list(rows), ratios, color=["#999999", *["#2b6cb0"] * (len(rows) - 1)])
        axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.set_xlim(0, max(ratios) * 1.15)
        axis.invert_yaxis()
        axis.set_title(record[section]["title"], fontsize=9)
        axis.set_xlabel("speedup over the plain baseline")
    if curves:
        for variant in curves["variants"]:
            points = variant["curve"]
            axes[0][-1].plot(
                [p["seconds"] / 60 for p in points], [p["psnr"] for p in points],
                marker=".", label=variant["name"],
            )  # fmt: skip
        axes[0][-1].set_xlabel("minutes of training")
        axes[0][-1].set_ylabel("PSNR on held-out photographs, dB")
        axes[0][-1].set_title("Time to quality: denoise, sigma 25", fontsize=9)
        axes[0][-1].legend(fontsize=8)
        axes[0][-1].grid(alpha=0.3)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
