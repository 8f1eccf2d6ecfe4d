"""``mode=report``: HTML report of one run or of all runs of a sweep."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.cli.common import new_file, place
from mprnet_lit.reports.runs_report import headline, write_runs_report
from mprnet_lit.utils.console import print_table
from mprnet_lit.utils.url import refuse_url


def run(config: DictConfig) -> None:
    """Write the report of the runs in ``input`` to ``output``."""
    runs = place(config, "input")
    refuse_url("input", runs, "download the folder of the runs")
    with new_file(config) as output:
        trials = write_runs_report(Path(runs), output)
        size = f"{output} ({output.stat().st_size / 1e6:.1f} MB)"
        print_table(Console(), dict(headline(trials)) | {"written": size})
