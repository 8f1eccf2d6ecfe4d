"""``mode=convert``: convert a weights file to another format and print its metadata."""

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit import weights
from mprnet_lit.cli.common import new_file, weights_file
from mprnet_lit.models import SIZES
from mprnet_lit.utils.console import print_table


def run(config: DictConfig) -> None:
    """Convert ``weights`` to ``output``.

    Raises:
        UserError: ``weights`` can't be read, or ``output`` exists or can't be written.
    """
    path, output = weights_file(config), new_file(config)
    read = weights.read(path)
    weights.save(read.model, output, read.info)
    size = read.model.size
    name = next((name for name, known in SIZES.items() if known == size), str(size))
    parameters = sum(p.numel() for p in read.model.parameters())
    facts = {
        "written": f"{output} ({output.stat().st_size / 1e6:.2f} MB)",
        "model": f"{name}, {parameters:,} parameters",
        "task": read.info.task or "not said",
        "trained on": f"patches of {read.info.crop} pixels",
        "measured": ", ".join(
            f"{name} {value:.4g}"
            for name, value in read.info.metrics.items()
            if name in ("val/psnr", "val/ssim")
        )
        or "not said",
        "license": read.info.license or "not said",
    }
    print_table(Console(), facts)
