"""``mode=report``: HTML report of one run or of all runs of a sweep."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.cli.common import new_file, place
from mprnet_lit.reports.runs_report import headline, write_runs_report
from mprnet_lit.utils.console import print_table


def run(config: DictConfig) -> None:
    """Write the report of the runs in ``input`` to ``output``."""
    output = new_file(config)
    trials = write_runs_report(Path(place(config, "input")), output)
    size = f"{output} ({output.stat().st_size / 1e6:.1f} MB)"
    print_table(Console(), dict(headline(trials)) | {"written": size})
