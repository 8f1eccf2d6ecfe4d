"""The Hydra plugin behind ``sweep=optuna``. Hydra wants plugins in this namespace package.

Workers of a launcher import it before they compose a job's configuration, which is why it registers
the resolvers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console

from mprnet_lit.config import register_resolvers
from mprnet_lit.errors import UserError
from mprnet_lit.tracking.terminal import say

register_resolvers()


class OptunaSweeper(Sweeper):
    """Asks a study for trials and has the launcher run them, some at a time.

    Args:
        name: of the study.
        storage: Optuna's URL of it.
        trials: how many to end with, those of earlier runs included.
        jobs: trials that are run at once, where the launcher can.
        objectives: what is optimised.
        params: search space by key, in Hydra's sweep syntax; the command line goes before it.
        startup_trials: random trials first.
        seed: of the sampler.
    """

    def __init__(
        self,
        name: str,
        storage: str,
        trials: int,
        jobs: int,
        objectives: Sequence[str],
        params: dict[str, Any],
        startup_trials: int,
        seed: int,
    ) -> None:
        self.name = name
        self.storage = storage
        self.trials = trials
        self.jobs = jobs
        self.objectives = list(objectives)
        self.params = dict(params)
        self.startup_trials = startup_trials
        self.seed = seed
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives to every sweeper."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are left.

        Raises:
            UserError: nothing is searched, an option can't be used, or no trial succeeded.
        """
        from mprnet_lit.sweeps.objectives import check
        from mprnet_lit.sweeps.space import parse_space
        from mprnet_lit.sweeps.study import RECORD, Study

        assert self.config is not None
        check(self.objectives)
        space = parse_space(self._parse(arguments))
        if not space.searched:
            raise UserError(
                "the sweep searches nothing: add, say, 'optimizer.lr=tag(log,interval(1e-5,1e-3))'"
            )
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        study = Study(
            self.storage,
            self.name,
            self.objectives,
            resume=self.config.resume == "auto",
            seed=self.seed,
            startup_trials=self.startup_trials,
        )
        say(Console(), f"sweep {self.name}: {study.finished()} of {self.trials} trials done before")
        while (left := self.trials - study.finished()) > 0:
            asked = [study.ask(space.searched) for _ in range(min(self.jobs, left))]
            jobs = [[*space.overrides(values), f"sweep.trial={n}"] for n, values in asked]
            for (number, _), returned in zip(asked, self._launch(jobs, asked[0][0]), strict=True):
                study.tell(number, *_outcome(returned))
            study.record(folder / RECORD)
        study.record(folder / RECORD)
        if not study.best():
            raise UserError(
                f"none of the {self.trials} trials succeeded: {folder / RECORD} says why"
            )
        for line in study.describe_best():
            say(Console(), line)

    def _launch(self, jobs: list[list[str]], first: int) -> Sequence[JobReturn]:
        assert self.launcher is not None
        self.validate_batch_is_legal(jobs)
        return self.launcher.launch(jobs, initial_job_idx=first)

    def _parse(self, arguments: list[str]) -> list[Any]:
        """Read overrides, those of the configuration first."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides(arguments)
        keys = {override.get_key_element() for override in given}
        presets = parser.parse_overrides([f"{k}={v}" for k, v in self.params.items()])
        return [o for o in presets if o.get_key_element() not in keys] + given


def _outcome(job: JobReturn) -> tuple[list[float] | Exception, Path]:
    """Return a job's objectives, or what it failed of, and its folder."""
    assert job.hydra_cfg is not None
    folder = Path(str(job.hydra_cfg.hydra.runtime.output_dir))
    value = job._return_value  # the property would raise
    if job.status != JobStatus.COMPLETED or value is None:
        failed = isinstance(value, Exception)
        return value if failed else UserError("it was not validated, or did not end"), folder
    return value if isinstance(value, list) else [float(value)], folder
