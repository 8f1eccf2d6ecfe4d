"""``mode=convert``: convert a weights file to another format and print its metadata."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit import weights
from mprnet_lit.cli.common import new_file, weights_file
from mprnet_lit.models import SIZES
from mprnet_lit.utils.console import print_table


def run(config: DictConfig) -> None:
    """Convert ``weights`` to ``output``."""
    with new_file(config) as output:
        _convert(weights_file(config), output)


def _convert(path: str, output: Path) -> None:
    read = weights.read(path)
    model, info = read.model, read.info
    weights.save(model, output, info)
    size = next((name for name, known in SIZES.items() if known == model.size), str(model.size))
    metrics = (f"{k} {v:.4g}" for k, v in info.metrics.items() if k in ("val/psnr", "val/ssim"))
    facts = {
        "written": f"{output} ({output.stat().st_size / 1e6:.2f} MB)",
        "model": f"{size}, {sum(p.numel() for p in model.parameters()):,} parameters",
        "task": info.task or "unknown",
        "trained on": f"patches of {info.crop} pixels",
        "measured": ", ".join(metrics) or "unknown",
        "license": info.license or "unknown",
    }
    print_table(Console(), facts)
