"""The configuration tree: every option composes, and means what the paper says."""

import subprocess
import sys

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from mprnet_lit.cli.command_line import chosen_mode
from mprnet_lit.config.groups import mode_groups, mode_options, modes
from mprnet_lit.config.messages import CONFIG_DIR, instantiate, register_resolvers
from mprnet_lit.runs.folder import fingerprint
from mprnet_lit.utils.errors import UserError


@pytest.fixture(autouse=True)
def resolvers():
    register_resolvers()


def compose(*overrides, **options):
    mode = chosen_mode(overrides)
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return hydra.compose(mode, overrides=list(overrides), **options)


OPTIONS = {
    f"{group}={option}": mode
    for mode in sorted(modes(), key=lambda mode: mode == "train")
    for group, options in mode_options(mode).items()
    for option in options
}
"""A mode by option."""

LAUNCHERS = {
    f"launch={name}": f"hydra_plugins.hydra_{plugin}_launcher"
    for name, plugin in (("joblib", "joblib"), ("ray", "ray"), ("slurm", "submitit"))
}


@pytest.mark.parametrize(("option", "mode"), OPTIONS.items())
def test_every_option_of_every_group_composes(option, mode):
    if option in LAUNCHERS:
        pytest.importorskip(LAUNCHERS[option])
    place = ["paths.run=here"] if "paths" in mode_groups(mode) else []
    config = compose(f"mode={mode}", option, *place)
    for name in config.keys() & {"trainer", "model", "module", "optimizer", "task", "inference"}:
        OmegaConf.to_container(config[name], resolve=True)


KEYS = {
    "train": "seed resume weights paths data model module optimizer trainer callbacks logger task",
    "restore": "input output weights overwrite restore inference task",
    "evaluate": "input output weights evaluate inference trainer task paths",
    "serve": "weights serve inference",
    "report": "input output overwrite",
    "export": "weights output overwrite export task data paths seed",
    "convert": "weights output overwrite task",
    "prepare": "output prepare data task paths seed",
    "profile": "weights output overwrite profile paths data model module optimizer trainer task "
    "seed",
}
"""Top-level keys of the primary configurations."""


@pytest.mark.parametrize("mode", modes())
def test_mode_composes_its_documented_keys_only(mode):
    assert set(compose(f"mode={mode}")) == {"mode", *KEYS[mode].split()}


@pytest.mark.parametrize(
    ("task", "size", "width", "patch", "epochs"),
    [
        ("deblur", "large", 96, 256, 3000),
        ("denoise", "base", 80, 128, 80),
        ("derain", "small", 40, 256, 250),
    ],
)
def test_paper_recipes(task, size, width, patch, epochs):
    config = compose(f"experiment=paper_{task}")
    assert config.task.name == task
    assert config.model.size == size and config.model.width == width
    assert (config.data.patch_size, config.data.batch_size) == (patch, 16)
    assert config.trainer.max_epochs == epochs
    assert config.optimizer.lr == 2e-4 and list(config.optimizer.betas) == [0.9, 0.999]
    assert config.optimizer.weight_decay == (1e-8 if task == "denoise" else 0)
    assert config.module.extra_period == (40 if task == "denoise" else 0)
    assert config.module.mixup_alpha == (0.6 if task == "denoise" else 0)
    assert config.task.loss.clamp == (task == "denoise")
    assert config.task.loss.edge_weight == (0 if task == "denoise" else 0.05)


def test_a_task_takes_the_papers_size_with_a_gpu_and_a_small_one_without(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))
    config = compose("task=deblur")
    assert (config.model.size, config.data.patch_size, config.data.batch_size) == ("large", 256, 16)
    config = compose("task=deblur", "trainer=cpu")
    assert (config.model.size, config.data.patch_size) == ("tiny", 64)
    assert compose("task=deblur", "trainer=cpu", "model=base").model.width == 80


def test_resume_and_places_are_not_part_of_what_a_run_is():
    plain = fingerprint(compose())
    assert fingerprint(compose("resume=auto", "paths.runs=elsewhere", "logger=none")) == plain
    for other in ("seed=1", "optimizer.lr=1e-3", "model=tiny", "trainer.max_epochs=3"):
        assert fingerprint(compose(other)) != plain


def test_targets_inside_lists_are_checked_too():
    evil = OmegaConf.create(
        {
            "_target_": "mprnet_lit.data.PairedAugmentation",
            "transforms": [{"_target_": "builtins.eval"}],
        }
    )
    with pytest.raises(UserError, match=r"transforms\.0\._target_=builtins\.eval"):
        instantiate(evil)


def imported(*arguments):
    command = [sys.executable, "-X", "importtime", "-m", "mprnet_lit", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("argument", ["--help", "taks=deblur"])
def test_help_and_mistakes_import_nothing_heavy(argument):
    found = imported(argument)
    assert "hydra" in found
    assert not found & {"torch", "numpy", "lightning", "albumentations", "cv2", "skimage"}


def test_restoring_imports_nothing_of_training():
    found = imported("mode=restore", "weights=missing.pth", "input=missing.png")
    assert "mprnet_lit.inference.restorer" in found
    assert not found & {"lightning", "albumentations", "skimage", "wandb", "tensorboard"}
