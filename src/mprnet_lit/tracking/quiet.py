"""Keeping from the terminal what Lightning says of itself."""

import logging
import warnings

_SETTLED = (
    ".*LeafSpec.*",
    ".*sync_dist=True.*",  # the metrics are reduced by then
    ".*dataloader is not resumable.*",  # it is, by its sampler's position
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*number of training batches.*is smaller than the logging interval.*",
    ".*DistributedSampler.*",  # our sampler gives each image once
)


def quieten() -> None:
    """Leave to the terminal what a run says itself."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _SETTLED:
        warnings.filterwarnings("ignore", message=message)
