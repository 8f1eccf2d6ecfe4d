"""Hydra sweeper of ``sweep=optuna``. Hydra finds plugins in this namespace package.

The workers of a launcher import this module before they compose the configuration of a job.
Importing this module therefore registers the resolvers.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.config.messages import quoted
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.runs import folder as runs
from mprnet_lit.utils import signals
from mprnet_lit.utils.compat import job_result
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from mprnet_lit.sweeps.space import Space
    from mprnet_lit.sweeps.study import StartedTrial

register_resolvers()

Outcome = list[float] | Exception
_OURS = {"resume", "sweep.name", "sweep.storage", "sweep.trial"}
"""Keys that the sweeper sets for each job."""


@dataclass
class OptunaSweeper(Sweeper):
    """Sweeper that gets trials from an Optuna study and runs them with the launcher.

    Args:
        name: name of the study.
        storage: Optuna URL of the study.
        trials: total number of trials, including those of earlier sweeps.
        jobs: number of trials per launch, which run in parallel if the launcher supports it.
        objectives: names of the objectives.
        params: search space by key in Hydra's sweep syntax; overrides take precedence.
        startup_trials: number of random trials before TPE starts.
        seed: random seed of the sampler.
    """

    name: str
    storage: str
    trials: int
    jobs: int
    objectives: list[str]
    params: dict[str, Any]
    startup_trials: int
    seed: int
    hydra_context: HydraContext = field(init=False)
    config: DictConfig = field(init=False)
    launcher: Launcher = field(init=False)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the context and the configuration, and create the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the remaining trials.

        Raises:
            UserError: the search space is empty, an option is invalid, or no trial succeeded.
        """
        from mprnet_lit.sweeps.objectives import check
        from mprnet_lit.sweeps.space import parse_space
        from mprnet_lit.sweeps.study import require_optuna

        require_optuna()
        check(self.objectives)
        space = parse_space(self._parse(arguments))
        if not space.searched:
            raise UserError(
                "the search space is empty: add, for example, "
                "'optimizer.lr=tag(log,interval(1e-5,1e-3))'"
            )
        for job in space.examples():  # report an invalid choice before any trial starts
            self.validate_batch_is_legal([job])
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        with runs.held(folder):
            self._run(space, folder)

    def _run(self, space: "Space", folder: Path) -> None:
        from mprnet_lit.sweeps.study import Study

        study = Study(
            self.storage,
            self.name,
            self.objectives,
            resume=self.config.resume == "auto",
            seed=self.seed,
            startup_trials=self.startup_trials,
        )
        console = Console()
        done = f"{study.finished()} of {self.trials} trials are already complete"
        print_line(console, f"sweep {self.name}: {done}")
        while (left := self.trials - study.finished()) > 0:
            started = [study.ask(space.searched, folder) for _ in range(min(self.jobs, left))]
            for trial, values in zip(started, self._launch(space, started, folder), strict=True):
                study.tell(trial.number, values)
            study.record(folder / runs.SWEEP)
        study.record(folder / runs.SWEEP)
        if not study.best():
            raise UserError(
                f"none of the {self.trials} trials succeeded: see {folder / runs.SWEEP}"
            )
        for line in study.describe_best():
            print_line(console, line)

    def _launch(self, space: "Space", started: list["StartedTrial"], folder: Path) -> list[Outcome]:
        """Run trials and return their outcomes. If the launcher fails, incomplete trials fail."""
        jobs = [self._job(space, trial, folder) for trial in started]
        try:
            returned = self.launcher.launch(jobs, initial_job_idx=started[0].number)
        except Exception as error:
            signals.exit_if_signaled()
            message = f"the launcher failed: {type(error).__name__}: {error}".strip()
            return [_complete(trial.folder) or UserError(message) for trial in started]
        signals.exit_if_signaled()
        return [_outcome(job) for job in returned]

    def _job(self, space: "Space", trial: "StartedTrial", folder: Path) -> list[str]:
        """Return the overrides of a trial, including the name and the folder of the sweep."""
        fixed = {
            "sweep.name": self.name,
            "sweep.storage": self.storage,
            "hydra.sweep.dir": str(folder),
            "hydra.sweep.subdir": trial.folder.name,
        }
        return [
            *(o for o in space.overrides(trial.values) if o.partition("=")[0] not in _OURS),
            *(f"{key}={quoted(value)}" for key, value in fixed.items()),
            f"sweep.trial={trial.number}",
            f"resume={'auto' if trial.is_resumed else 'null'}",
        ]

    def _parse(self, arguments: list[str]) -> list[Any]:
        """Parse the overrides of the configuration and of the command line."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides(arguments)
        keys = {override.get_key_element() for override in given}
        presets = parser.parse_overrides([f"{k}={v}" for k, v in self.params.items()])
        return [o for o in presets if o.get_key_element() not in keys] + given


def _outcome(job: JobReturn) -> Outcome:
    """Return the values of the objectives of a job, or its error."""
    value = job_result(job)
    if isinstance(value, Exception):
        return value
    if job.status != JobStatus.COMPLETED or not isinstance(value, list):
        return UserError("the trial ended early or without validation")
    return value


def _complete(folder: Path) -> list[float] | None:
    """Return the objective values of a trial; ``None`` if the trial is not complete."""
    path = folder / runs.OBJECTIVES
    return list(json.loads(path.read_text(encoding="utf-8")).values()) if path.is_file() else None
