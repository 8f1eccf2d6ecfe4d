"""Terminal output: plain lines, tables of settings, and a filter for messages of libraries."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from mprnet_lit.utils.mirror import readable
from mprnet_lit.utils.text import printable

_IGNORED_WARNINGS = (
    ".*LeafSpec.*",
    ".*sync_dist=True.*",  # the metrics are already reduced across processes
    ".*dataloader is not resumable.*",  # the sampler stores its position
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*number of training batches.*is smaller than the logging interval.*",
    ".*Grad strides do not match.*",  # harmless for 1x1 convolutions
    ".*DistributedSampler.*",  # our sampler does not repeat images
)


def print_line(console: Console, line: str) -> None:
    """Print a line without wrapping, markup and emoji codes; control characters are escaped.

    Local copies of files at URLs are named by their addresses.
    """
    console.print(Text(printable(readable(line))), soft_wrap=True)


def print_table(console: Console, rows: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print_line(console, f"{name:>{width}}  {value}")


def silence_lightning() -> None:
    """Hide the info messages and the known, harmless warnings of Lightning."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The MLflow logger warns about every new experiment.
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
