"""What a folder of runs holds: every training in it, whole, running, killed or failed."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from mprnet_lit.models import MPRNet
from mprnet_lit.runs import ERROR
from mprnet_lit.runs import RECORD as RUN
from mprnet_lit.sweeps.study import RECORD as SWEEP
from mprnet_lit.tracking.curves import Curve, read_curves
from mprnet_lit.tracking.run_files import (
    MISSING,
    flatten,
    is_number,
    modified,
    overrides,
    plain,
    read_json,
    read_text,
    read_yaml,
)
from mprnet_lit.tracking.summary import SUMMARY

_SIZE = ("width", "unet_step", "orsnet_step", "cabs_per_orb", "reduction")
_NO_RUNS_INSIDE = {"checkpoints", "panels", "csv", "tensorboard", "wandb", "mlflow"}
_WIDEST = 4096
"""A network wider than this is not built to count its parameters."""


@dataclass
class Trial:
    """One training, or a trial of a sweep that came to none.

    Attributes:
        name: its folder, relative to what is reported.
        state: complete, pruned, failed, killed, running, waiting; "unfinished" if nobody says.
        folder: where it lies.
        error: why it failed.
        overrides: what its command line, or the sweep, set.
        config: the configuration by dotted keys; the run's own folder is RUN in it.
        resolved: whether that is all of it; else it is what needs no resolving.
        environment: versions, revision and machine by dotted keys.
        best: the best validation's figures.
        parameters: of the network.
        seconds: from its first file to its summary, as the file system has it.
        curves: of the logged scalars.
        notes: what of its files is missing or damaged.
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
        """The best validation PSNR."""
        return self.best.get("psnr")

    def note(self, file: str, damage: str) -> None:
        """Note what is wrong with a file, if anything is."""
        if damage:
            self.notes.append(f"{file} {damage}")


def find_trials(root: Path) -> tuple[Path, list[Trial]]:
    """Return all trainings in a folder, or the one that it is, and the folder they all lie in."""
    root = root.resolve()
    folders, sweeps = _search(root)
    if folders == [root] and not sweeps and (root.parent / SWEEP).is_file():
        found = [t for t in _of_sweep(root.parent, root, set()) if t.folder == root]
        if found:
            return root, found[-1:]
    places = [*sweeps, *(folder.parent for folder in folders)]
    common = Path(os.path.commonpath(places)) if places and folders != [root] else root
    trials: list[Trial] = []
    claimed: set[Path] = set()
    for sweep in sweeps:
        trials += _of_sweep(sweep, common, claimed)
    trials += [_read(folder, common) for folder in folders if folder not in claimed]
    return common, [t for t in trials if t.config.get("mode.name", "train") == "train"]


def _search(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of runs, and those of sweeps."""
    runs, sweeps = [], []
    for place, names, files in os.walk(root):
        folder = Path(place)
        if SWEEP in files:
            sweeps.append(folder)
        is_run = bool({RUN, ERROR, SUMMARY} & set(files)) or any(
            folder.glob("csv/version_*/metrics.csv")
        )
        if is_run:
            runs.append(folder)
        skipped = _NO_RUNS_INSIDE if is_run else ()
        names[:] = sorted(
            (n for n in names if not n.startswith(".") and n not in skipped), key=_natural
        )
    return runs, sweeps


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (2**62, name)


def _of_sweep(sweep: Path, root: Path, claimed: set[Path]) -> Iterator[Trial]:
    """Read the trials of ``sweep.json``, and add their folders to those that are claimed."""
    path = sweep / SWEEP
    content, damage = read_json(path)
    listed = content.get("trials")
    entries = [t for t in listed if isinstance(t, dict)] if isinstance(listed, list) else []
    if damage:
        yield Trial(_name(sweep, root), notes=[f"{SWEEP} {damage}"])
    of_trial = {id(t): _moved(sweep, t["folder"]) for t in entries if t.get("folder")}
    taken = set(of_trial.values())
    for entry in entries:
        folder = of_trial.get(id(entry))
        if folder is None:  # it never ended; another trial may have gone on in its folder
            folder = sweep / str(entry.get("number"))
            folder = folder if folder.is_dir() and folder not in taken else None
        if folder is not None and folder.is_dir():
            claimed.add(folder)
            trial = _read(folder, root)
        else:
            trial = Trial(_name(sweep / str(entry.get("number")), root))
        if folder is not None and folder.name != str(entry.get("number")):
            trial.name = _name(sweep / str(entry.get("number")), root) + f" (in {folder.name})"
        trial.state = str(entry.get("state") or trial.state)
        if trial.state == "failed" and not trial.error and entry.get("error"):
            trial.error = str(entry["error"])
        parameters, values = entry.get("params"), entry.get("values")
        if isinstance(parameters, dict):
            trial.overrides |= {str(key): plain(value) for key, value in parameters.items()}
        if isinstance(values, dict):
            measured = {str(k): v for k, v in values.items() if is_number(v)}
            trial.best = measured | trial.best
            if trial.parameters is None and "parameters" in measured:
                trial.parameters = int(measured["parameters"])
        yield trial


def _moved(sweep: Path, recorded: Any) -> Path:
    """Return where a trial's folder is now, if the sweep's was moved since."""
    path = Path(str(recorded))
    return sweep / path.name if path.parent.name == sweep.name else path


def _read(folder: Path, root: Path) -> Trial:
    """Read a run's folder, whatever is left of it."""
    trial = Trial(_name(folder, root), folder=folder)
    trial.curves, trial.notes = read_curves(folder)
    started, ended, failed = (modified(folder / name) for name in (RUN, SUMMARY, ERROR))
    summary, summary_damage = read_json(folder / SUMMARY)
    environment, environment_damage = read_json(folder / "environment.json")
    config, config_damage = read_yaml(folder / "config.yaml")
    if summary_damage != MISSING:  # it is, until the run ends
        trial.note(SUMMARY, summary_damage)
    if started is not None or failed is None:  # else it failed before it wrote them
        trial.note("environment.json", environment_damage)
        trial.note("config.yaml", config_damage)
    trial.best = {key: float(v) for key, v in summary.items() if is_number(v)}
    if trial.psnr is None and "val/psnr" in trial.curves:
        trial.best |= _best_of(trial.curves)
    trial.environment = flatten(environment)
    trial.resolved = isinstance(config, dict)
    if not trial.resolved:
        config, _ = read_yaml(folder / ".hydra" / "config.yaml")
    leaves = flatten(config)
    own = leaves.get("paths.run")
    leaves = {key: _portable(value, own) for key, value in leaves.items()}
    trial.config = {key: v for key, v in leaves.items() if trial.resolved or "${" not in str(v)}
    trial.parameters = _parameters(trial.config)
    trial.overrides = overrides(read_yaml(folder / ".hydra" / "overrides.yaml")[0])
    if failed is not None and failed > (ended or 0):
        trial.state, trial.error = "failed", read_text(folder / ERROR)
    elif ended is not None:
        trial.state = "complete"
    if started is not None and ended is not None and ended - started >= 1:
        trial.seconds = ended - started
    return trial


def _best_of(curves: dict[str, Curve]) -> dict[str, float]:
    """Return what ``summary.json`` would hold of a run that has none yet."""
    psnr = curves["val/psnr"]
    finite = [k for k, value in enumerate(psnr.values) if math.isfinite(value)]
    if not finite:
        return {}
    best = max(finite, key=psnr.values.__getitem__)
    step = psnr.steps[best]
    found: dict[str, float] = {"epoch": psnr.epochs[best], "step": step}
    for name, curve in curves.items():
        if name.startswith("val/") and step in curve.steps:
            found[name.removeprefix("val/")] = curve.values[curve.steps.index(step)]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _parameters(config: dict[str, Any]) -> int | None:
    sizes = {name: config.get(f"model.{name}") for name in _SIZE}
    if not all(type(v) is int and 0 < v <= _WIDEST for v in sizes.values()):
        return None
    try:
        with torch.device("meta"):  # neither memory nor time
            model = MPRNet(**cast(dict[str, Any], sizes))
        return sum(p.numel() for p in model.parameters())
    except (ValueError, RuntimeError):  # no such network
        return None


def _portable(value: Any, own: Any) -> Any:
    if isinstance(value, str) and isinstance(own, str) and own:
        return value.replace(own, "RUN")
    return value


def _name(folder: Path, root: Path) -> str:
    if folder == root:
        return root.name
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)
