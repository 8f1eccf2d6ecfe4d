"""Search for training runs in a folder: complete, running, killed or failed."""

import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from mprnet_lit.reports.curves import Curve, collapse_notes, curve_files, read_curves
from mprnet_lit.reports.parameter_counts import count_parameters
from mprnet_lit.runs.collapse import first_check
from mprnet_lit.runs.config_reading import masked_settings, read_config
from mprnet_lit.runs.files import (
    CONFIG,
    is_number,
    modified,
    overrides,
    plain,
    read_json,
    read_text,
    read_yaml,
)
from mprnet_lit.runs.folder import ERROR, RECORD, SUMMARY, SWEEP
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.masking import mask, mask_text
from mprnet_lit.utils.untrusted import MISSING, walk

_NO_RUNS_INSIDE = {"checkpoints", "panels", "csv", "tensorboard", "wandb", "mlflow"}
_MAX_SWEEP_BYTES = 2**23
"""Maximum size of the record of a sweep, at about 300 bytes per trial."""
_MAX_RUNS = 10_000
"""Maximum number of runs in one report."""
MAX_CURVES = 100
"""Maximum number of runs with curves; more lines would not be distinct in a figure."""
_MAX_READS = 3
"""Maximum number of times that one folder is read. Several trials may resume in one folder."""


@dataclass
class Trial:
    """Training run, or trial of a sweep without a run folder.

    Attributes:
        name: folder of the run, relative to the folder of the report.
        state: complete, pruned, failed, killed, running or waiting; "unfinished" if not recorded.
        folder: folder of the run.
        error: message of a failed run.
        overrides: settings of the command line or of the sweep.
        config: configuration by dotted key; RUN replaces the folder of the run.
        resolved: whether ``config`` is complete; otherwise interpolated values are missing.
        environment: package versions, revision and machine, by dotted key.
        best: metrics of the best validation.
        parameters: number of parameters of the network.
        seconds: duration of the run, from the modification times of its files.
        curves: logged scalars by name; empty for a run that is not among the 100 best.
        notes: descriptions of missing or damaged files.
    """

    name: str
    state: str = "unfinished"
    folder: Path | None = None
    error: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    resolved: bool = False
    environment: dict[str, Any] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None
    seconds: float | None = None
    curves: dict[str, Curve] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def psnr(self) -> float | None:
        """Best validation PSNR in dB."""
        return self.best.get("psnr")

    def note(self, file: str, damage: str) -> None:
        """Add a note about a file; an empty ``damage`` adds nothing."""
        if damage:
            self.notes.append(f"{file} {damage}")


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return runs by decreasing PSNR; runs without PSNR are last."""
    return sorted(trials, key=lambda t: -math.inf if t.psnr is None else t.psnr, reverse=True)


def find_trials(root: Path) -> tuple[Path, list[Trial]]:
    """Return the common folder of all training runs in ``root``, and the runs.

    ``root`` may be the folder of one run. No file outside ``root`` is read, except for the record
    of the sweep if ``root`` is one of its trials. Only the 100 best runs have curves.

    Raises:
        UserError: ``root`` contains more than 10,000 runs or a million files.
    """
    root = root.resolve()
    folders, sweeps = _search(root)
    if folders == [root] and not sweeps:  # the record of its sweep may contain the state
        content, _ = read_json(root.parent / SWEEP, _MAX_SWEEP_BYTES)
        entries = [e for e in _entries(content) if _folder_of(e, root.parent) == root]
        if entries:
            return root, [_of_entry(entries[-1], root.parent, root, root)]
    places = [*sweeps, *(folder.parent for folder in folders)]
    common = Path(os.path.commonpath(places)) if places and folders != [root] else root
    claimed: set[Path] = set()
    of_sweeps = chain.from_iterable(_of_sweep(sweep, common, claimed) for sweep in sweeps)
    others = (_read(folder, common) for folder in folders if folder not in claimed)
    trials: list[Trial] = []
    for trial in chain(of_sweeps, others):
        if _mode(trial.config) == "train":
            trials.append(trial)
            if len(trials) % MAX_CURVES == 0:  # bounds the memory
                _drop_curves(trials)
    _drop_curves(trials)
    return common, trials


def _drop_curves(trials: Sequence[Trial]) -> None:
    """Drop the curves of all runs but the best."""
    for trial in ranked([t for t in trials if t.curves])[MAX_CURVES:]:
        trial.curves = {}


def _mode(config: dict[str, Any]) -> Any:
    """Return the mode of a run, which release 0.1 stored as ``mode.name``."""
    return config.get("mode", config.get("mode.name", "train"))


def _search(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of runs and the folders of sweeps."""
    runs, sweeps = [], []
    for folder, names, files in walk(root):
        if SWEEP in files:
            sweeps.append(folder)
        if {RECORD, ERROR, SUMMARY} & set(files) or ("csv" in names and curve_files(folder)):
            runs.append(folder)
            if len(runs) > _MAX_RUNS:
                raise UserError(
                    f"{root} contains over {_MAX_RUNS:,} runs: set input to a folder inside it"
                )
            names[:] = [name for name in names if name not in _NO_RUNS_INSIDE]
        names.sort(key=_natural)
    return runs, sweeps


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (2**62, name)


def _of_sweep(sweep: Path, root: Path, claimed: set[Path]) -> Iterator[Trial]:
    """Yield the trials of ``sweep.json``, and add their folders to ``claimed``."""
    content, damage = read_json(sweep / SWEEP, _MAX_SWEEP_BYTES)
    if damage:
        yield Trial(_name(sweep, root), notes=[f"{SWEEP} {damage}"])
    entries = _entries(content)
    folders = [_folder_of(entry, sweep) for entry in entries]
    times: Counter[Path] = Counter()
    taken = {folder for folder in folders if folder is not None}
    for entry, folder in zip(entries, folders, strict=True):
        if folder is None and not entry.get("folder"):
            # The trial did not end. Another trial may have resumed in its folder.
            folder = _inside(sweep, entry.get("number"))
            folder = None if folder in taken else folder
        if folder is not None:
            claimed.add(folder)
            times[folder] += 1
            folder = folder if times[folder] <= _MAX_READS else None
        yield _of_entry(entry, sweep, folder, root)


def _entries(content: dict[str, Any]) -> list[dict[str, Any]]:
    listed = content.get("trials")
    kept = listed[:_MAX_RUNS] if isinstance(listed, list) else []
    return [entry for entry in kept if isinstance(entry, dict)]


def _of_entry(entry: dict[str, Any], sweep: Path, folder: Path | None, root: Path) -> Trial:
    """Return the trial of an entry of ``sweep.json``, with the files of its folder if it exists."""
    number = str(entry.get("number"))
    above = sweep.relative_to(root).parts if sweep.is_relative_to(root) else ()
    title = "/".join((*above, number))
    trial = Trial(title) if folder is None else _read(folder, root)
    if folder is not None and folder.name != number:
        trial.name = f"{title} (in {folder.name})"
    trial.state = str(entry.get("state") or trial.state)
    if trial.state == "failed" and not trial.error and entry.get("error"):
        trial.error = mask_text(str(entry["error"]))
    parameters, values = entry.get("params"), entry.get("values")
    if isinstance(parameters, dict):
        trial.overrides |= {str(key): plain(v) for key, v in mask(parameters).items()}
    if isinstance(values, dict):
        measured = {str(k): v for k, v in values.items() if is_number(v)}
        trial.best = measured | trial.best
        if trial.parameters is None and "parameters" in measured:
            trial.parameters = int(measured["parameters"])
    return trial


def _folder_of(entry: dict[str, Any], sweep: Path) -> Path | None:
    """Return the folder of a trial in the folder ``sweep``, which may have moved."""
    return _inside(sweep, re.split(r"[\\/]", str(entry.get("folder") or "").rstrip("\\/"))[-1])


def _inside(sweep: Path, name: Any) -> Path | None:
    """Return a subfolder by name; ``None`` if it does not exist or is a link."""
    name = str(name)
    if name in ("", ".", "..") or re.search(r"[\\/\0]", name):
        return None
    folder = sweep / name
    try:
        return folder if stat.S_ISDIR(folder.lstat().st_mode) else None
    except OSError:  # missing, or the name is too long
        return None


def _read(folder: Path, root: Path) -> Trial:
    """Read the run in a folder; missing and damaged files are added to its notes."""
    trial = Trial(_name(folder, root), folder=folder)
    trial.curves, trial.notes = read_curves(folder)
    started, ended, failed = (modified(folder / name) for name in (RECORD, SUMMARY, ERROR))
    summary, summary_damage = read_json(folder / SUMMARY)
    environment, environment_damage = read_json(folder / "environment.json")
    config, config_damage = read_config(folder, CONFIG)
    if summary_damage != MISSING:  # a run has no summary before it ends
        trial.note(SUMMARY, summary_damage)
    if started is not None or failed is None:  # otherwise the run failed before writing these files
        trial.note("environment.json", environment_damage)
        trial.note(CONFIG, config_damage)
    counted = summary.pop("parameters", None)  # runs of earlier versions have no count
    trial.best = {key: float(v) for key, v in summary.items() if is_number(v)}
    if trial.psnr is None and "val/psnr" in trial.curves:
        trial.best |= _best_of(trial.curves)
    trial.environment = masked_settings(environment)
    trial.resolved = config is not None
    if config is None:
        config = read_config(folder, ".hydra/config.yaml")[0] or {}
    own = config.get("paths.run")
    if isinstance(own, str) and own:
        inside = [(k, v) for k, v in config.items() if isinstance(v, str) and own in v]
        config |= {k: v.replace(own, "RUN") for k, v in inside}
    trial.config = config
    if not trial.resolved:
        trial.config = {k: v for k, v in config.items() if "${" not in str(v)}
    decay = trial.config.get("callbacks.ema.decay")
    trial.notes += collapse_notes(trial.curves, first_check(decay if is_number(decay) else None))
    trial.parameters = counted if type(counted) is int else count_parameters(trial.config)
    trial.overrides = overrides(mask(read_yaml(folder, ".hydra/overrides.yaml")[0]))
    if failed is not None and failed > (ended or 0):
        trial.state, trial.error = "failed", mask_text(read_text(folder / ERROR))
    elif ended is not None:
        trial.state = "complete"
    if started is not None and ended is not None and ended - started >= 1:
        trial.seconds = ended - started
    return trial


def _best_of(curves: dict[str, Curve]) -> dict[str, float]:
    """Return the best validation from the curves, for a run without ``summary.json``."""
    psnr = curves["val/psnr"]
    finite = [k for k, value in enumerate(psnr.values) if math.isfinite(value)]
    if not finite:
        return {}
    best = max(finite, key=psnr.values.__getitem__)
    step = psnr.steps[best]
    found: dict[str, float] = {"epoch": psnr.epochs[best], "step": step}
    for name, curve in curves.items():
        if name.startswith("val/") and step in curve.steps:
            value = curve.values[curve.steps.index(step)]
            if math.isfinite(value):
                found[name.removeprefix("val/")] = value
    return found


def _name(folder: Path, root: Path) -> str:
    return root.name if folder == root else folder.relative_to(root).as_posix()
