"""Data: pairing, crops, degradations, the LightningDataModule."""

from mprnet_lit.data.augmentation import PairedAugmentation
from mprnet_lit.data.datamodule import RestorationDataModule
from mprnet_lit.data.sources import CleanFolder, PairedFolders, Photos

__all__ = ["CleanFolder", "PairedAugmentation", "PairedFolders", "Photos", "RestorationDataModule"]
