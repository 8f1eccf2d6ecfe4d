"""``mode=convert``: turn weights of any format into another, and say what they are."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit import weights
from mprnet_lit.errors import UserError
from mprnet_lit.models import SIZES


def run(config: DictConfig) -> None:
    """Read ``weights``, write ``output``.

    Raises:
        UserError: one can't be read, the other can't be written or is there already.
    """
    if config.weights is None:
        raise UserError("weights is not set: add weights=FILE (.ckpt, .pth or .safetensors)")
    output = Path(str(config.output))
    if output.exists() and not config.overwrite:
        raise UserError(f"{output} is there already: choose another output or add overwrite=true")
    read = weights.read(str(config.weights))
    weights.save(read.model, output, read.info)
    size = read.model.size
    name = next((name for name, known in SIZES.items() if known == size), str(size))
    parameters = sum(p.numel() for p in read.model.parameters())
    rows = {
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
        "licence": read.info.licence or "not said",
    }
    console = Console()
    for label, value in rows.items():
        console.print(f"{label:>10}  {value}", highlight=False, soft_wrap=True, markup=False)
