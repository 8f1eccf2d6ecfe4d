"""Configuration tree: every option composes, and its values match the paper."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.cli.command_line import chosen_mode
from mprnet_lit.config.groups import CONFIG_DIR, mode_groups, mode_options, modes
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.config.messages import explain
from mprnet_lit.config.renamed import upgraded
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.models import SIZES
from mprnet_lit.models.sizes import SizeName
from mprnet_lit.runs.folder import fingerprint, settings
from mprnet_lit.utils.errors import UserError


@pytest.fixture(autouse=True)
def resolvers() -> None:
    register_resolvers()


def compose(*overrides: str, **options: Any) -> DictConfig:
    mode = chosen_mode(overrides)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra.compose(mode, overrides=list(overrides), **options)


OPTIONS = {
    f"{group}={option}": mode
    for mode in sorted(modes(), key=lambda mode: mode == "train")
    for group, options in mode_options(mode).items()
    for option in options
}
"""Mapping from options to the mode that has them."""

LAUNCHERS = {
    f"launch={name}": f"hydra_plugins.hydra_{plugin}_launcher"
    for name, plugin in (("joblib", "joblib"), ("ray", "ray"), ("slurm", "submitit"))
}


@pytest.mark.parametrize(("option", "mode"), OPTIONS.items())
def test_every_option_of_every_group_composes(option: str, mode: str) -> None:
    if option in LAUNCHERS:
        pytest.importorskip(LAUNCHERS[option])
    place = ["paths.run=here"] if "paths" in mode_groups(mode) else []
    config = compose(f"mode={mode}", option, *place)
    for name in config.keys() & {"trainer", "model", "module", "optimizer", "task", "inference"}:
        OmegaConf.to_container(config[name], resolve=True)


KEYS = {
    "train": "seed resume weights lr_finder paths data model module optimizer schedule trainer "
    "callbacks logger loss task tracking",
    "restore": "input output weights overwrite restore inference task",
    "evaluate": "input output weights evaluate inference trainer task paths",
    "serve": "weights serve inference task",
    "report": "input output overwrite",
    "export": "weights output overwrite export task data paths seed",
    "convert": "weights output overwrite task",
    "prepare": "output prepare data task paths seed",
    "profile": "weights output overwrite profile paths data model module optimizer schedule loss "
    "trainer task seed",
}
"""Top-level keys of the primary configurations."""


@pytest.mark.parametrize("mode", modes())
def test_mode_composes_its_documented_keys_only(mode: str) -> None:
    assert set(compose(f"mode={mode}")) == {"mode", *KEYS[mode].split()}


@pytest.mark.parametrize(
    ("task", "size", "patch", "epochs"),
    [("deblur", "large", 256, 3000), ("denoise", "base", 128, 80), ("derain", "small", 256, 250)],
)
def test_paper_experiments(task: str, size: SizeName, patch: int, epochs: int) -> None:
    config = compose(f"experiment=paper_{task}")
    assert config.task.name == task
    assert {key: config.model[key] for key in asdict(SIZES[size])} == asdict(SIZES[size])
    assert (config.data.patch_size, config.data.batch_size) == (patch, 16)
    assert config.trainer.max_epochs == epochs
    assert config.optimizer.lr == 2e-4 and list(config.optimizer.betas) == [0.9, 0.999]
    assert config.optimizer.weight_decay == (1e-8 if task == "denoise" else 0)
    assert config.schedule.extra_period == (40 if task == "denoise" else 0)
    assert config.module.mixup_alpha == (0.6 if task == "denoise" else 0)
    assert config.loss.clamp == (task == "denoise")
    assert config.loss.edge_weight == (0 if task == "denoise" else 0.05)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine on which torch finds a GPU."""
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine on which torch does not find a GPU."""
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)


@pytest.mark.parametrize(("task", "size"), [("deblur", "large"), ("denoise", "base")])
def test_recipe_follows_task_and_gpu(gpu: None, task: str, size: SizeName) -> None:
    config = compose(f"task={task}")
    paper = compose(f"experiment=paper_{task}")
    assert config.model.width == SIZES[size].width
    assert config.trainer.precision == "bf16-mixed" and paper.trainer.precision == "32-true"
    for group in ("model", "optimizer", "schedule", "module"):
        assert config[group] == paper[group]
    for key in ("patch_size", "batch_size", "val_crop_size"):
        assert config.data[key] == paper.data[key]
    for key in ("max_epochs", "check_val_every_n_epoch"):
        assert config.trainer[key] == paper.trainer[key]


@pytest.mark.parametrize("chosen", [["trainer=cpu"], ["recipe=cpu_deblur"]])
def test_cpu_recipe_is_chosen_on_a_machine_with_a_gpu(gpu: None, chosen: list[str]) -> None:
    config = compose("task=deblur", *chosen)
    assert (config.model.width, config.data.patch_size, config.data.batch_size) == (16, 64, 8)
    assert config.trainer.precision == "32-true"


def test_cpu_recipe_is_chosen_without_a_gpu(cpu: None) -> None:
    assert compose("task=derain") == compose("task=derain", "recipe=cpu_derain")
    assert compose("task=derain", "recipe=gpu_derain").trainer.max_epochs == 250


@pytest.mark.parametrize("size", SIZES)
def test_named_model_overrides_the_recipe(size: Any) -> None:
    config = compose("recipe=gpu_derain", f"model={size}")
    assert {key: config.model[key] for key in asdict(SIZES[size])} == asdict(SIZES[size])


def test_composed_numbers_are_plain_values() -> None:
    """`--cfg job` shows numbers, not formulas."""
    written: Any = OmegaConf.to_container(compose(), resolve=False)
    for group in ("model", "optimizer", "schedule", "trainer", "data", "module"):
        formulas = {k: v for k, v in written[group].items() if "${mprnet." in str(v)}
        assert formulas == {}


def test_optimizers_have_their_documented_defaults(cpu: None) -> None:
    assert compose("optimizer=adamw").optimizer.weight_decay == 1e-2
    assert compose("optimizer=adamw", "optimizer.weight_decay=0").optimizer.weight_decay == 0
    sgd = compose("optimizer=sgd").optimizer
    assert sgd.momentum == 0.9 and sgd.weight_decay == 1e-8 and "betas" not in sgd


def test_task_without_a_recipe_is_reported(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "own.yaml").write_text("# @package _global_\ntask: {name: own}\n")
    path = f"hydra.searchpath=[file://{tmp_path}]"
    with pytest.raises(MissingConfigException) as error:
        compose(path, "task=own", "trainer=cpu")
    sentence = explain(error.value, "train")
    assert sentence is not None
    assert sentence.startswith(
        "there is no recipe 'cpu_own': choose one with recipe=NAME (cpu_deblur"
    )
    assert sentence.endswith("or add recipe/cpu_own.yaml to the configuration")
    assert compose(path, "task=own", "recipe=cpu_deblur").task.name == "own"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "model.size=tiny",
            "the key 'model.size' was removed: choose the network with model=",
        ),
        ("task.paper.epochs=3", "the key 'task.paper.epochs' was removed: the hyperparameters"),
        ("module.warmup_epochs=1", "this key is now schedule.warmup_epochs"),
        ("task.loss.eps=0.03", "this key is now loss.eps: type loss.eps=0.03"),
        ("trainer.auto_batch=true", "was removed: set a larger trainer.accumulate_grad_batches"),
    ],
)
def test_old_keys_name_the_new_ones(override: str, expected: str) -> None:
    with pytest.raises(ConfigCompositionException) as error:
        compose(override)
    sentence = explain(error.value, "train")
    assert sentence is not None and expected in sentence


def test_every_key_of_a_loss_takes_effect_or_is_refused() -> None:
    register_resolvers()
    assert compose("task=derain", "loss=charbonnier", "loss.eps=0.03").loss.eps == 0.03
    for mode, key in (
        ("mode=train", "task.loss.eps"),
        ("mode=profile", "task.loss.eps"),
        ("mode=train", "loss.eps"),
    ):
        with pytest.raises(ConfigCompositionException):
            compose(mode, "loss=l1", f"{key}=0.03")
    old = {"task.loss._target_": "mprnet_lit.losses.MultiStageLoss", "task.loss.eps": 0.03}
    new = {"loss._target_": "mprnet_lit.training.losses.MultiStageLoss", "loss.eps": 0.03}
    assert upgraded(old, new) == new


def test_fingerprint_ignores_resume_and_paths() -> None:
    plain = fingerprint(compose())
    assert fingerprint(compose("resume=auto", "paths.runs=elsewhere", "logger=none")) == plain
    for how_it_ends in (
        "callbacks.peer_check.timeout=5", "callbacks.stop_on_signal.requeue=true",
        "callbacks.skip_nonfinite.max_consecutive=3", "tracking.tags=[a]", "~callbacks.log_run",
    ):  # fmt: skip
        assert fingerprint(compose(how_it_ends)) == plain
    assert fingerprint(compose("~callbacks.skip_nonfinite")) != plain
    for other in ("seed=1", "optimizer.lr=1e-3", "model=small", "trainer.max_epochs=3"):
        assert fingerprint(compose(other)) != plain


def test_fingerprint_is_of_the_resolved_configuration(cpu: None) -> None:
    assert fingerprint(compose()) == fingerprint(compose("recipe=cpu_denoise"))
    assert fingerprint(compose()) != fingerprint(compose("recipe=gpu_denoise"))
    same = "task.degradation._target_=${task.quickstart_degradation._target_}"
    written_out = "task.degradation._target_=mprnet_lit.data.degradations.GaussianNoise"
    assert fingerprint(compose(same)) == fingerprint(compose(written_out))


def test_fingerprint_ignores_paths_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    data = fingerprint(compose("data=gopro"))
    assert fingerprint(compose("data=gopro", "paths.gopro=elsewhere", "paths.run=here")) == data
    monkeypatch.setenv("SLURM_NNODES", "2")
    cluster = fingerprint(compose("trainer=slurm"))
    monkeypatch.setenv("SLURM_NNODES", "4")
    assert fingerprint(compose("trainer=slurm")) == cluster
    sweep = compose("sweep=optuna", "sweep.trial=1")
    assert fingerprint(sweep) == fingerprint(compose("sweep=optuna", "sweep.trial=2"))
    own = compose("+data.own=${hydra:runtime.output_dir}", "+data.other=${oc.env:NOT_SET}")
    assert settings(own)["data"]["other"] == "${oc.env:NOT_SET}"
    assert settings(own)["callbacks"]["last"]["dirpath"] == "${paths.run}/checkpoints"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere.Blur", "No module named 'nowhere'"),
        ("albumentations.Nothing", "albumentations.Nothing"),
        ("broken_module.Blur", "broken_module"),
    ],
)
def test_missing_target_is_refused_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, reason: str
) -> None:
    (tmp_path / "broken_module.py").write_text("1 +\n")
    monkeypatch.syspath_prepend(tmp_path)
    augmentation = "mprnet_lit.data.PairedAugmentation"
    node = {"_target_": augmentation, "transforms": [{"_target_": target}]}
    with pytest.raises(UserError) as error:
        instantiate(OmegaConf.create({"own": node}).own)
    assert f"own.transforms.0._target_={target} can't be imported (" in str(error.value)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_any_importable_class_is_instantiated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_module.py").write_text("class Blur:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert type(instantiate(OmegaConf.create({"_target_": "own_module.Blur"}))).__name__ == "Blur"


def imported(*arguments: str) -> set[Any]:
    command = [sys.executable, "-X", "importtime", "-m", "mprnet_lit", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("argument", ["--help", "taks=deblur"])
def test_help_and_errors_do_not_import_torch(argument: str) -> None:
    found = imported(argument)
    assert "hydra" in found
    assert not found & {"torch", "numpy", "lightning", "albumentations", "cv2", "skimage"}


def test_restore_mode_does_not_import_training() -> None:
    found = imported("mode=restore", "weights=missing.pth", "input=missing.png")
    assert "mprnet_lit.inference.restorer" in found
    assert not found & {"lightning", "albumentations", "skimage", "wandb", "tensorboard"}


def test_report_mode_does_not_import_torch(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    for name, content in (("run.json", {"format": 2}), ("summary.json", {"parameters": 7})):
        (tmp_path / name).write_text(json.dumps(content))
    found = imported("mode=report", f"input={tmp_path}", f"output={tmp_path / 'report.html'}")
    assert (tmp_path / "report.html").is_file()
    assert "plotly" in found and "torch" not in found


def test_average_of_release_0_1_is_found_by_its_new_class() -> None:
    register_resolvers()
    key, old = "callbacks.ema._target_", "lightning.pytorch.callbacks.EMAWeightAveraging"
    assert upgraded({key: old}, {key}) == {key: compose("callbacks=ema").callbacks.ema._target_}


def test_runs_that_differ_in_compilation_are_the_same() -> None:
    register_resolvers()
    plain = fingerprint(compose())
    assert fingerprint(compose("module.compile=false")) == plain
    assert fingerprint(compose("module.mixup_alpha=0.1")) != plain
