"""Learning-rate range test: the rule, and its use and record in a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.cli.test_bad_input import error_message
from tests.conftest import Cli

from mprnet_lit import weights
from mprnet_lit.training import lr_finder
from mprnet_lit.utils.errors import UserError

RATES = np.geomspace(1e-6, 1e-1, 51).tolist()  # ten per decade


def test_suggestion_is_a_tenth_of_the_rate_with_the_smallest_loss() -> None:
    losses = [0.5 + 0.1 * np.log10(rate / 1e-2) ** 2 for rate in RATES]
    assert lr_finder.best_rate(RATES, losses) == pytest.approx(1e-3)
    losses[:5] = [-9.0] * 5  # few steps
    losses[-3:] = [np.nan] * 3
    assert lr_finder.best_rate(RATES, losses) == pytest.approx(1e-3)
    negative = [loss - 50 for loss in (0, *[-10 * k for k in range(50)])]  # as with loss=psnr
    assert lr_finder.best_rate(RATES, negative) == pytest.approx(1e-2)
    for flat in ([0.5] * 51, [0.5 - 1e-4 * k for k in range(51)], [np.nan] * 51):
        with pytest.raises(
            UserError, match=r"no learning rate from 1e-06 to 0\.1 .* by a tenth: set"
        ):
            lr_finder.best_rate(RATES, flat)


def test_suggestion_is_used_recorded_and_kept_on_resuming(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lr_finder, "STEPS", 5)
    found: list[Any] = []

    def seen(rates: list[float], losses: list[float]) -> float:
        found.append((rates, losses))
        return 3e-4

    monkeypatch.setattr(lr_finder, "best_rate", seen)
    command = (
        "logger=csv", "trainer.max_epochs=1", "loss=psnr", "trainer.limit_train_batches=2",
        "trainer.limit_val_batches=1", "data.num_workers=0", "~callbacks.panels",
    )  # fmt: skip
    outcome = cli(*command, "lr_finder=true")
    ((rates, losses),) = found
    assert len(rates) == len(losses) == 5 and rates == sorted(rates)
    assert "Found optimizer.lr=0.0003 instead of 0.0002" in outcome.output
    folder = outcome.file("metrics.csv").parents[2]
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == 3e-4
    info = weights.read(folder / "checkpoints" / "last.ckpt").info
    assert info.config["optimizer"]["lr"] == 3e-4
    assert not [*outcome.folder.glob("**/.lr_find*")] and "Finding best" not in outcome.errors

    # The test changes neither the initial weights nor the data of the run.
    plain = cli(*command, "optimizer.lr=3e-4", "hydra.run.dir=runs/plain")
    states = [weights.load(plain.folder / "runs/plain"), weights.load(folder)]
    first, second = (state.state_dict() for state in states)
    assert all(first[name].equal(second[name]) for name in first)

    again = cli(*command, "lr_finder=true", "resume=auto")
    assert "Already complete" in again.output and len(found) == 1
    refused = cli(*command, "lr_finder=true", "resume=runs/plain", status=1)
    assert "can't resume" in error_message(refused) and len(found) == 1


def test_several_devices_are_refused(cli: Cli, tmp_path: Path) -> None:
    message = error_message(cli("lr_finder=true", "trainer.devices=2", "logger=none", status=1))
    assert message.startswith(
        "Error: lr_finder=true needs a single device: run it with trainer.dev"
    )
    assert not [*tmp_path.glob("runs/**/*.ckpt")]
