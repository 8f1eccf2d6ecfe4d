"""What reaches the terminal: plain lines and facts, and little of what libraries say."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from mprnet_lit.utils.text import printable

_SETTLED = (
    ".*LeafSpec.*",
    ".*sync_dist=True.*",  # the metrics are reduced by then
    ".*dataloader is not resumable.*",  # it is, by its sampler's position
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*number of training batches.*is smaller than the logging interval.*",
    ".*Grad strides do not match.*",  # of 1x1 weights, whose memory is the same either way
    ".*DistributedSampler.*",  # our sampler gives each image once
)


def say(console: Console, line: str) -> None:
    """Print a line as it is: not wrapped, without markup, emoji codes and control characters."""
    console.print(Text(printable(line)), soft_wrap=True)


def say_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, facts))
    for name, value in facts.items():
        say(console, f"{name:>{width}}  {value}")


def quieten() -> None:
    """Keep from the terminal what Lightning says of itself."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every new experiment.
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    for message in _SETTLED:
        warnings.filterwarnings("ignore", message=message)
