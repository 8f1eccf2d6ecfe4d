"""Optuna study with persistent trials."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mprnet_lit.sweeps.objectives import DIRECTIONS
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.compat import trial_id
from mprnet_lit.utils.errors import UserError, install_hint
from mprnet_lit.utils.masking import mask, mask_text

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

PRUNED, ERROR, KILLED = "pruned", "error", "killed"
"""User attributes of trials: pruned, error message, and running when the sweep was killed."""
_TIMES, _MAX_KILLS = "times killed", 3
_STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}


class StartedTrial(NamedTuple):
    """Trial that has been started.

    Attributes:
        number: number of the trial in its study.
        values: value of each searched key.
        folder: directory of the training run.
        is_resumed: whether the trial resumes a killed trial in the same folder.
    """

    number: int
    values: dict[str, Any]
    folder: Path
    is_resumed: bool


class Study:
    """Trials of a sweep in a database.

    Args:
        storage: Optuna storage URL of the study, such as ``sqlite:///runs/sweeps/denoise/study.db``.
        name: name of the study.
        objectives: names of the objectives, which are keys of ``DIRECTIONS``.
        resume: whether to resume an existing study.
        seed: random seed of the sampler.
        startup_trials: number of random trials before TPE starts.

    Raises:
        UserError: Optuna is not installed, the storage can't be used, the study exists and
            ``resume`` is false, or the study has other objectives.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        objectives: Sequence[str],
        *,
        resume: bool,
        seed: int,
        startup_trials: int,
    ) -> None:
        optuna = require_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.objectives = list(objectives)
        directions = [DIRECTIONS[name] for name in objectives]
        _make_folder(storage)
        try:
            self.study: Any = optuna.create_study(
                storage=storage, study_name=name, directions=directions, load_if_exists=resume
            )
        except optuna.exceptions.DuplicatedStudyError as error:
            raise UserError(
                f"the sweep '{name}' already exists: add resume=auto to continue it, or choose "
                "another sweep.name"
            ) from error
        except Exception as error:  # SQLAlchemy and the database drivers raise many types
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                mask_text(f"sweep.storage={storage} can't be used: {reason}")
            ) from error
        if not self.study.trials:
            self.study.set_user_attr("objectives", self.objectives)
        if self.study.user_attrs.get("objectives") != self.objectives:
            raise UserError(
                f"the sweep '{name}' has other objectives than sweep.objectives="
                f"[{','.join(objectives)}]: choose another sweep.name"
            )
        before = len(self.study.trials)  # with the same seed, the random trials would repeat
        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed + before, n_startup_trials=startup_trials
        )
        self._requeue_killed()

    def _requeue_killed(self) -> None:
        """Enqueue the trials that were running when an earlier sweep was killed.

        A trial that was killed three times counts as failed.
        """
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            times = trial.user_attrs.get(_TIMES, 0) + 1
            is_last = times >= _MAX_KILLS
            mark = (ERROR, f"killed {times} times") if is_last else (KILLED, True)
            self._set_attribute(trial, *mark)
            self.study.tell(trial.number, state=TrialState.FAIL)
            if not is_last:
                folder = trial.user_attrs.get("folder")
                self.study.enqueue_trial(trial.params, {"folder": folder, _TIMES: times})

    def finished(self) -> int:
        """Return the number of complete, pruned and failed trials, without killed trials."""
        return sum(t.state.is_finished() and KILLED not in t.user_attrs for t in self.study.trials)

    def ask(self, searched: Mapping[str, "BaseDistribution"], parent: Path) -> StartedTrial:
        """Start a trial.

        Args:
            searched: distributions of the searched values by key.
            parent: parent of the folder of a new trial. A killed trial keeps its folder.

        Raises:
            UserError: the search space differs from that of earlier trials.
        """
        try:
            trial = self.study.ask(dict(searched))
        except ValueError as error:
            raise UserError(
                f"the search space differs from that of earlier trials ({error}): choose another "
                "sweep.name"
            ) from error
        before = trial.user_attrs.get("folder")
        folder = Path(before or parent.absolute() / str(trial.number))
        trial.set_user_attr("folder", str(folder))
        return StartedTrial(trial.number, trial.params, folder, is_resumed=before is not None)

    def tell(self, number: int, values: Sequence[float] | Exception) -> None:
        """Finish a trial with the values of its objectives, or with its error."""
        from optuna.trial import TrialState

        trial = self.study.trials[number]
        if not isinstance(values, Exception) and not all(map(math.isfinite, values)):
            values = UserError(f"the value of {'/'.join(self.objectives)} is not finite: {values}")
        if isinstance(values, Exception):
            self._set_attribute(trial, ERROR, mask_text(str(values)))
            self.study.tell(number, state=TrialState.FAIL)
        elif PRUNED in trial.user_attrs:
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, list(values))

    def _set_attribute(self, trial: "optuna.trial.FrozenTrial", name: str, value: Any) -> None:
        require_optuna().trial.Trial(self.study, trial_id(trial)).set_user_attr(name, value)

    def record(self, path: Path) -> None:
        """Write the results of all trials as JSON, which ``mode=report`` reads."""
        trials = [
            {
                "number": trial.number,
                "state": KILLED if KILLED in trial.user_attrs else _STATES[trial.state.name],
                "params": mask(trial.params),
                "values": dict(zip(self.objectives, trial.values or (), strict=False)),
                # Another trial resumes a killed trial in its folder.
                "folder": None if KILLED in trial.user_attrs else trial.user_attrs.get("folder"),
                "error": mask(trial.user_attrs.get(ERROR)),
            }
            for trial in self.study.trials
        ]
        best = [trial.number for trial in self.study.best_trials]
        content = {"objectives": self.objectives, "best": best, "trials": trials}
        write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())

    def best(self) -> list["optuna.trial.FrozenTrial"]:
        """Return the best trial, or the Pareto front of several objectives."""
        trials: list[optuna.trial.FrozenTrial] = self.study.best_trials
        return trials

    def describe_best(self) -> list[str]:
        """Return one line of text per best trial."""
        lines = []
        for trial in self.best():
            values = zip(self.objectives, trial.values, strict=True)
            measured = ", ".join(f"{name} {value:.6g}" for name, value in values)
            chosen = " ".join(f"{key}={value}" for key, value in trial.params.items())
            lines.append(f"best: trial {trial.number}, {measured}: {chosen}")
        return lines


def _make_folder(storage: str) -> None:
    """Create the folder of an SQLite file."""
    kind, found, path = storage.partition("sqlite:///")
    if not kind and found and path:
        if "?" in path:
            raise UserError(f"sweep.storage={storage} can't be used: choose a name without '?'")
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def require_optuna() -> Any:
    """Import and return Optuna.

    Raises:
        UserError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            f"sweep=optuna needs Optuna, which is not installed: {install_hint('optuna')}"
        ) from error
    return optuna
