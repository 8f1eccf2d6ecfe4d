"""Training data: LightningDataModule, image sources, crops, degradations and augmentation."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from mprnet_lit.data.augmentation import PairedAugmentation
    from mprnet_lit.data.datamodule import RestorationDataModule
    from mprnet_lit.data.patterns import Patterns
    from mprnet_lit.data.shard_datamodule import ShardDataModule
    from mprnet_lit.data.shards import Shards
    from mprnet_lit.data.sources import CleanFolder, PairedFolders, Photos
    from mprnet_lit.data.store import Prepared

__all__ = [
    "CleanFolder",
    "PairedAugmentation",
    "PairedFolders",
    "Patterns",
    "Photos",
    "Prepared",
    "RestorationDataModule",
    "ShardDataModule",
    "Shards",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["PairedAugmentation"],
        "datamodule": ["RestorationDataModule"],
        "patterns": ["Patterns"],
        "shard_datamodule": ["ShardDataModule"],
        "shards": ["Shards"],
        "sources": ["CleanFolder", "PairedFolders", "Photos"],
        "store": ["Prepared"],
    },
)
