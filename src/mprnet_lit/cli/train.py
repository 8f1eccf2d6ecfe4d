"""``mode=train``: train a network and return the best validation PSNR."""

import json
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.models import MPRNet
from mprnet_lit.runs.folder import OBJECTIVES, SUMMARY
from mprnet_lit.sweeps.objectives import measure
from mprnet_lit.training.build import build_model
from mprnet_lit.training.callbacks.stop_on_signal import Stopped, start_again
from mprnet_lit.training.fit import fit
from mprnet_lit.utils import signals
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.console import silence_lightning


def run(config: DictConfig) -> float | list[float] | None:
    """Train a network, and return its best validation PSNR in dB; ``None`` without validation.

    In an Optuna sweep, return the values of the objectives.
    """
    silence_lightning()
    folder = Path(config.paths.run).resolve()
    try:
        model = fit(config, folder)
    except Stopped as stop:
        start_again(stop.number, stop.requeue)
        raise
    if model is not None or not (folder / OBJECTIVES).is_file():
        _measure_objectives(config, folder, model)
    signals.exit_sweep_if_signaled()
    return _outcome(config, folder)


@rank_zero_only
def _measure_objectives(config: DictConfig, folder: Path, model: MPRNet | None) -> None:
    """Write the objective values of a trial; without ``model``, build one of the same size."""
    summary = folder / SUMMARY
    if OmegaConf.select(config, "sweep.objectives") and summary.is_file():
        model = model or build_model(config).model
        values = measure(
            config.sweep.objectives, json.loads(summary.read_text(encoding="utf-8")), model
        )
        write_atomic(folder / OBJECTIVES, (json.dumps(values) + "\n").encode())


def _outcome(config: DictConfig, folder: Path) -> float | list[float] | None:
    searched = OmegaConf.select(config, "sweep.objectives")
    path = folder / (OBJECTIVES if searched else SUMMARY)
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    return list(values.values()) if searched else float(values["psnr"])
