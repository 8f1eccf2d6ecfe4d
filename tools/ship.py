"""Add the final weights of a training to the package.

python -m tools.ship runs/denoise/TIME/checkpoints/last.ckpt
python -m tools.ship WEIGHTS build/photographs/train    weights without the change of their patches

The change of the training patches (``Info.change``) is recorded in checkpoints. For weights without
this record, it is measured with the recorded degradation on crops of the training photographs.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from mprnet_lit import weights
from mprnet_lit.data.datasets import CropDataset
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.data.sources import CleanFolder
from mprnet_lit.training.change import ChangeHistogram
from mprnet_lit.weights.shipped import shipped

_CROPS = 100
"""Number of crops of each photograph."""


def measured_change(config: Mapping[str, Any], photographs: Path, crops: int = _CROPS) -> float:
    """Return the 99th percentile of the change by the degradation of a training configuration."""
    dataset = CropDataset(
        CleanFolder(photographs).samples("raise"),
        crop_size=config["data"]["patch_size"],
        training=True,
        degradation=instantiate(config["data"]["degradation"], _convert_="all"),
        crops_per_image=crops,
    )
    histogram = ChangeHistogram()
    for number in range(len(dataset)):
        item = dataset[ItemKey(0, number)]
        histogram.add(item["degraded"][None], item["target"][None])
    change = histogram.high()
    assert change is not None
    return change


def main(arguments: Sequence[str] | None = None) -> None:
    source, *folders = sys.argv[1:] if arguments is None else arguments
    read = weights.read(source)
    info = replace(read.info, license="Apache-2.0")
    if folders:
        info = replace(info, change=measured_change(info.config, Path(folders[0])))
    if info.change is None:
        sys.exit(f"{source} has no change of its patches: add the folder of its photographs")
    target = shipped(info.task)
    target.parent.mkdir(exist_ok=True)
    weights.save(read.model, target, info)
    print(f"{target}: {target.stat().st_size:,} bytes, change {info.change} of 255 levels")


if __name__ == "__main__":
    main()
