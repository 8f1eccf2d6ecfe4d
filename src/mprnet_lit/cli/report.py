"""``mode=report``: one page on a run, or on all runs of a sweep."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.cli.common import new_file, place
from mprnet_lit.reports.runs_report import headline, write_runs_report
from mprnet_lit.utils.console import say_facts


def run(config: DictConfig) -> None:
    """Write ``output`` on what is in ``input``.

    Raises:
        UserError: there is no run in it, or the page is there already or can't be written.
    """
    output = new_file(config)
    trials = write_runs_report(Path(place(config, "input")), output)
    size = f"{output} ({output.stat().st_size / 1e6:.1f} MB)"
    say_facts(Console(), dict(headline(trials)) | {"written": size})
