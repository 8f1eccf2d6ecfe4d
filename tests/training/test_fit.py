"""Parts of a training: callbacks and trainer, as configured."""

import inspect
import json
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from tests.cli.test_bad_input import error_message
from tests.config.test_config import compose
from tests.conftest import Cli

from mprnet_lit import weights
from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.runs.folder import LAST, RECORD, SUMMARY
from mprnet_lit.training.callbacks.stop_on_signal import StopOnSignal
from mprnet_lit.training.checkpoints import read_checkpoint
from mprnet_lit.training.trainer import build_trainer
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.format_version import FORMAT

CALLBACKS = yaml.safe_load((CONFIG_DIR / "callbacks/default.yaml").read_text())["defaults"]
SHORT = ("trainer.max_steps=1", "trainer.limit_val_batches=1", "data.num_workers=0", "logger=csv")


def options(group: Any) -> list[str]:
    return [f"{group}={path.stem}" for path in (CONFIG_DIR / group).glob("*.yaml")]


def test_each_callback_has_a_file_of_its_own() -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIG_DIR.glob("callbacks/*")}
    assert set(CALLBACKS) == files.keys() - {"default", "ema", "cloud"}
    for name in (*CALLBACKS, "ema", "cloud"):
        assert files[name].keys() - {"defaults"} == {name}


@pytest.mark.parametrize("option", options("trainer"))
def test_settings_of_the_trainer_are_arguments_of_lightning(option: str) -> None:
    register_resolvers()
    taken = inspect.signature(lightning.Trainer).parameters
    assert set(compose(option).trainer) - {"_target_"} <= set(taken)


def test_requeue_with_slurm() -> None:
    register_resolvers()
    assert compose("trainer=slurm").callbacks.stop_on_signal.requeue is True
    assert compose().callbacks.stop_on_signal.requeue is False


@pytest.mark.parametrize("removed", CALLBACKS)
def test_callback_can_be_removed(cli: Cli, removed: str) -> None:
    outcome = cli(*SHORT, f"~callbacks.{removed}")
    folder = outcome.file("metrics.csv").parents[2]
    assert (folder / SUMMARY).exists() == (removed != "summary")
    assert (folder / LAST).exists() == (removed != "last")
    names = outcome.file("metrics.csv").read_text().partition("\n")[0]
    assert ("train/skipped_steps" in names) == (removed != "skip_nonfinite")


def test_all_callbacks_can_be_removed(cli: Cli) -> None:
    outcome = cli(*SHORT, "callbacks=monitor", "callbacks.monitor=null")
    assert outcome.file("metrics.csv").is_file()
    assert not list(outcome.folder.glob("runs/**/*.ckpt"))
    assert outcome.output == ""


def test_resume_needs_the_check_of_the_states(cli: Cli) -> None:
    cli(*SHORT, "hydra.run.dir=first")
    longer = (*SHORT, "trainer.max_steps=2", "resume=first")
    message = error_message(cli(*longer, "~callbacks.checkpoint_states", status=1))
    assert "without callbacks.checkpoint_states, which checks the states" in message
    assert "resuming after step 1" in cli(*longer, "hydra.run.dir=second").output


def test_stop_on_signal_follows_the_callbacks_that_change_weights() -> None:
    register_resolvers()
    config = compose("callbacks=ema", "trainer=cpu", "paths.run=x")
    stop, average = StopOnSignal("x"), lightning.pytorch.callbacks.EMAWeightAveraging()
    callbacks = vars(build_trainer(config, [stop, average]))["callbacks"]
    assert callbacks.index(average) < callbacks.index(stop)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Checkpoint and a weights file of each format."""
    folder = tmp_path_factory.mktemp("saved")
    model = weights.read("denoise").model
    paths = [folder / name for name in ("a.ckpt", "a.pth", "a.safetensors")]
    for path in paths:
        weights.save(model, path)
    return paths


def test_weights_of_a_newer_format_are_refused(
    saved: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in saved:
        assert weights.read(path).model.size.width == 16
    monkeypatch.setattr("mprnet_lit.utils.format_version.FORMAT", FORMAT - 1)
    for path in saved:
        with pytest.raises(UserError, match=rf"{path.name} has format 2, .* upgrade mprnet_lit"):
            weights.read(path)


def test_runs_of_a_newer_format_are_refused(cli: Cli, tmp_path: Path) -> None:
    cli(*SHORT, "hydra.run.dir=run")
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    assert (
        record["format"]
        == FORMAT
        == read_checkpoint(tmp_path / "run" / LAST)["mprnet_lit"]["format"]
    )
    (tmp_path / "run" / RECORD).write_text(json.dumps(record | {"format": 3}))
    again = (*SHORT, "trainer.max_steps=2", "hydra.run.dir=again")
    message = error_message(cli(*again, "resume=run", status=1))
    assert "run/run.json has format 3" in message and "upgrade mprnet_lit" in message
    content = torch.load(tmp_path / "run" / LAST, weights_only=True)
    content["mprnet_lit"]["format"] = 3
    torch.save(content, tmp_path / "newer.ckpt")
    message = error_message(cli(*again, "resume=newer.ckpt", status=1))
    assert "newer.ckpt has format 3" in message
