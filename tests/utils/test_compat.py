"""Private names of other libraries still work as ``utils/compat.py`` expects."""

import ast
import math
import re
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import openvino
import optuna
import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf
from omegaconf.errors import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from torch.utils.tensorboard.summary import scalar

import mprnet_lit
from mprnet_lit.utils import compat

SOURCES = Path(mprnet_lit.__file__).parents[1]


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), **options,
    )  # fmt: skip


class Line(LightningModule):
    """Module with a single weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any) -> Any:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


BATCHES: DataLoader[Any] = DataLoader(torch.ones(4, 1), batch_size=1)  # type: ignore[arg-type]


def test_launcher_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"strategy": "ddp", "devices": 2}
    assert compat.starts_subprocesses(trainer(**two)), "launchers._SubprocessScriptLauncher"
    spawn = trainer(strategy="ddp_spawn", devices=2)
    assert compat.trains_in_child_processes(spawn), "launchers._MultiProcessingLauncher"
    for alone in (trainer(), spawn):
        assert not compat.starts_subprocesses(alone)
    assert not compat.trains_in_child_processes(trainer())
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not compat.starts_subprocesses(trainer(**two)), "torchrun starts all processes"


def test_process_group_timeout() -> None:
    found = DDPStrategy()
    before = found._timeout
    compat.set_process_group_timeout(found, 7)
    assert before != found._timeout == timedelta(seconds=7), "DDPStrategy._timeout"
    compat.set_process_group_timeout(trainer().strategy, 7)


class Watch(Callback):
    """Records the restoring of a checkpoint and the step numbers."""

    def __init__(self) -> None:
        self.restoring: list[bool] = []
        self.steps: list[int] = []

    def on_fit_start(self, trainer: Any, *_: Any) -> None:
        self.restoring.append(compat.is_restoring(trainer))

    def on_train_start(self, trainer: Any, *_: Any) -> None:
        self.restoring.append(compat.is_restoring(trainer))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.steps.append(compat.logged_step(trainer))


def test_restoring_and_logged_step(tmp_path: Path) -> None:
    first, second = Watch(), Watch()
    run = trainer(first, max_epochs=1, accumulate_grad_batches=2)
    run.fit(Line(), BATCHES)
    run.save_checkpoint(tmp_path / "x.ckpt")
    again = trainer(second, max_epochs=2, accumulate_grad_batches=2)
    again.fit(Line(), BATCHES, ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert first.restoring == [False, False]
    assert second.restoring == [True, False], "_checkpoint_connector._loaded_checkpoint"
    assert first.steps + second.steps == [0, 0, 1, 1, 2, 2, 3, 3], "_batches_that_stepped"


def test_averaged_model() -> None:
    average, module = EMAWeightAveraging(decay=0.5), Line()
    trainer(average, max_epochs=1).fit(module, BATCHES)
    found = compat.averaged_model(average)
    assert isinstance(found, AveragedModel), "WeightAveraging._average_model"
    for averaged, weight in zip(found.module.parameters(), module.parameters(), strict=True):
        assert torch.equal(averaged, weight)


def test_optimizers_that_unscale_gradients() -> None:
    weight = nn.Parameter(torch.ones(1))
    name = "Optimizer._step_supports_amp_scaling"
    assert compat.unscales_by_itself(torch.optim.Adam([weight], fused=True)), name
    assert not compat.unscales_by_itself(torch.optim.Adam([weight]))


def test_moved_schedule_equals_a_stepped_schedule() -> None:
    def make() -> tuple[Any, LambdaLR]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
        return optimizer, LambdaLR(optimizer, lambda step: 1 / (1 + step))

    (optimizer, stepped), (other, moved) = make(), make()
    compat.set_position(moved, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the scheduler warns if _step_count is wrong
        for _ in range(3):
            optimizer.step()
            stepped.step()
    state, expected = (
        {k: v for k, v in schedule.state_dict().items() if k != "lr_lambdas"}
        for schedule in (moved, stepped)
    )
    assert state == expected, "LRScheduler._step_count and _last_lr"
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.125


def test_recompilation_limit() -> None:
    before = torch._dynamo.config.recompile_limit
    try:
        compat.allow_recompilations(before + 5)
        compat.allow_recompilations(1)
        assert torch._dynamo.config.recompile_limit == before + 5
    finally:
        torch._dynamo.config.recompile_limit = before


def test_summary_is_written_to_tensorboard(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    compat.write_summary(logger, scalar("x", math.pi))
    logger.finalize("success")
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert tags["scalars"] == ["x"] or tags["tensors"] == ["x"], "SummaryWriter._get_file_writer"


def test_wandb_receives_no_deprecated_argument(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    assert "anonymous" in logger._wandb_init, "Lightning no longer passes it: drop_anonymous can go"
    compat.drop_anonymous(logger)
    assert "anonymous" not in logger._wandb_init


def test_keys_of_nodes() -> None:
    config = OmegaConf.create({"a": {"b": [{"c": 1}]}})
    assert compat.full_key(config.a.b[0], "c") == "a.b[0].c", "Container._get_full_key"
    assert compat.full_key(config.a) == "a"


def test_exception_of_a_job_is_returned() -> None:
    error = ValueError("x")
    job = JobReturn(status=JobStatus.FAILED)
    job.return_value = error
    assert compat.job_result(job) is error, "JobReturn._return_value"


def test_trial_is_reopened_by_its_identifier() -> None:
    study = optuna.create_study()
    study.ask()
    (trial,) = study.trials
    again = optuna.trial.Trial(study, compat.trial_id(trial))
    again.set_user_attr("x", 1)
    assert study.trials[0].user_attrs == {"x": 1}, "FrozenTrial._trial_id"


def test_openvino_has_the_setting_that_avoids_int8() -> None:
    """Unknown settings are an error."""
    x = openvino.opset13.parameter([1, 3])
    model = openvino.Model([openvino.opset13.relu(x)], [x])
    core = openvino.Core()
    core.compile_model(model, "CPU", compat.openvino_without_int8())
    with pytest.raises(RuntimeError, match="LP_TRANSFORMS"):
        core.compile_model(model, "CPU", {"LP_TRANSFORMS": "NO"})


def test_other_modules_use_no_private_names() -> None:
    found = []
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                names = [] if owner in ("self", "cls") else [node.attr]
            elif isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            else:
                continue
            private = [n for n in names if re.fullmatch(r"_(?!_)(?!exit$).*", n)]
            if private and path.name != "compat.py":
                found.append(f"{path.name}:{node.lineno}: {private}")
    assert found == []


def test_typed_nodes_check_values_and_accept_further_keys() -> None:
    @dataclass
    class Node:
        count: int = 3

    node = OmegaConf.create(compat.typed_nodes(Node))
    node.added = "text"
    with pytest.raises(ValidationError):
        node.count = "many"
    assert node == {"count": 3, "added": "text"}
