"""Data: pairing, patches, degradations, the LightningDataModule."""
