"""``mode=convert``: convert a weights file to another format and print its metadata."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit import weights
from mprnet_lit.cli.common import new_file
from mprnet_lit.cli.restorer import weights_file
from mprnet_lit.models.sizes import size_name
from mprnet_lit.utils.console import print_table
from mprnet_lit.utils.file_state import sha256


def run(config: DictConfig) -> None:
    """Convert ``weights`` to ``output``."""
    with new_file(config) as output:
        _convert(weights_file(config), output)


def _convert(path: str, output: Path) -> None:
    read = weights.read(path)
    model, info = read.model, read.info
    assert read.path is not None
    digest = sha256(read.path)  # before ``output`` replaces the file
    weights.save(model, output, info)
    metrics = (f"{k} {v:.4g}" for k, v in info.metrics.items() if k in ("val/psnr", "val/ssim"))
    count = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "read": f"{read.path} (sha256={digest})",
        "written": f"{output} ({output.stat().st_size / 1e6:.2f} MB)",
        "model": f"{size_name(model.size)}, {count:,} parameters",
        "task": info.task or "unknown",
        "trained on": f"patches of {info.crop} pixels",
        "measured": ", ".join(metrics) or "unknown",
        "license": info.license or "unknown",
    }
    print_table(Console(), facts)
