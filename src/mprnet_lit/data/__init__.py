"""Data: pairing, crops, degradations, the LightningDataModule; photos and videos."""

from typing import TYPE_CHECKING

from mprnet_lit.lazy import lazy

if TYPE_CHECKING:
    from mprnet_lit.data.augmentation import PairedAugmentation
    from mprnet_lit.data.datamodule import RestorationDataModule
    from mprnet_lit.data.sources import CleanFolder, PairedFolders, Photos
    from mprnet_lit.data.store import Prepared

__all__ = [
    "CleanFolder",
    "PairedAugmentation",
    "PairedFolders",
    "Photos",
    "Prepared",
    "RestorationDataModule",
]

__getattr__ = lazy(
    __name__,
    {
        "PairedAugmentation": "augmentation",
        "RestorationDataModule": "datamodule",
        "CleanFolder": "sources",
        "PairedFolders": "sources",
        "Photos": "sources",
        "Prepared": "store",
    },
)
