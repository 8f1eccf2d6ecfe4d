"""Validation of settings: every number of the configuration with invalid values."""

import inspect
import math
import pickle
import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from tests.cli.test_bad_input import error_message
from tests.config.test_config import compose
from tests.conftest import PHOTOS, Cli

from mprnet_lit.config.groups import mode_keys, mode_options, modes
from mprnet_lit.config.instantiate import instantiate
from mprnet_lit.config.messages import explain
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.config.schema import KEYS
from mprnet_lit.config.values import TABLE, check_value, check_values, settings
from mprnet_lit.data import degradations
from mprnet_lit.data.samples import Sample
from mprnet_lit.data.sampling import ItemKey
from mprnet_lit.models import MPRNet
from mprnet_lit.training.build import build_callbacks, build_module
from mprnet_lit.training.trainer import build_trainer
from mprnet_lit.utils.errors import UserError


@pytest.fixture(scope="module")
def configs() -> list[Any]:
    """Configurations that together contain every option of every group."""
    register_resolvers()
    for launcher in ("joblib", "ray", "submitit"):
        pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    composed = []
    for mode in modes():
        groups = [[f"{g}={name}" for name in names] for g, names in mode_options(mode).items()]
        for chosen in [*zip_longest(*groups)] or [()]:
            overrides = [f"mode={mode}", *(option for option in chosen if option)]
            composed.append(compose(*overrides, return_hydra_config=True))
    return composed


@pytest.fixture(scope="module")
def found(configs: list[Any]) -> dict[Any, tuple[Any, Any]]:
    """Mapping from each key with a rule to its value and rule."""
    return {key: (value, rule) for config in configs for key, value, rule in settings(config)}


def numbers(node: Any, path: str = "") -> Iterator[Any]:
    """Yield the keys of all numbers and flags, or of their lists, except references."""
    for name in list(node) if OmegaConf.is_dict(node) else range(len(node)):
        key = f"{path}.{name}".strip(".")
        if OmegaConf.is_missing(node, name):
            continue
        try:
            value = node[name]
        except InterpolationResolutionError:  # the run folder, which is not set here
            continue
        if isinstance(value, int | float):
            yield path if OmegaConf.is_list(node) else key
        elif OmegaConf.is_config(value) and not OmegaConf.is_interpolation(node, name):
            yield from numbers(value, key)


def test_every_number_and_flag_of_the_configuration_has_a_rule(
    configs: list[Any], found: dict[Any, tuple[Any, Any]]
) -> None:
    keys = set()
    for config in configs:
        keys |= {*numbers(OmegaConf.masked_copy(config, [k for k in config if k != "hydra"]))}
        for node in ("launcher", "sweeper"):
            keys |= {*numbers(config.hydra[node], f"hydra.{node}")}
    assert len(keys) > 150 and keys <= found.keys(), keys - found.keys()


def test_every_rule_belongs_to_an_existing_setting(found: dict[Any, tuple[Any, Any]]) -> None:
    """A misspelled key in the table would have no effect."""
    for section, rules in TABLE.items():
        if section == "mprnet_lit.data.degradations.*":
            classes = [getattr(degradations, name) for name in degradations.__all__]
            taken = {key for kind in classes for key in inspect.signature(kind).parameters}
            assert rules.keys() <= taken, section
            continue
        try:
            taken = {"_partial_", *inspect.signature(hydra.utils.get_object(section)).parameters}
        except Exception:  # a section of the configuration, or a pattern
            taken = {key.rpartition(".")[2] for key in found}
        assert rules.keys() <= taken, section


# Keys (their last part) that accept each unusual value. All other keys must reject it.
RIGHT: dict[Any, str] = {
    -1: "devices max_epochs max_steps num_sanity_val_steps save_top_k n_jobs psnr ssim",
    0: "seed overlap limit_train_batches limit_val_batches max_epochs max_steps gradient_clip_val "
    "num_sanity_val_steps log_every_n_steps unet_step orsnet_step weight_decay warmup_epochs "
    "extra_period final_lr mixup_alpha mixup_after_epoch edge_weight frequency_weight "
    "perceptual_weight num_workers cache_gb sigma "
    "length width layers density angle p brightness contrast saturation hue save_top_k after_steps "
    "min_warmup_steps probability filtered size color "
    "spread directions falloff motion occlusion level opacity strength "
    "every_n_epochs decay count trial max_weights_mb momentum psnr ssim verbose num_cpus num_gpus "
    "gpus_per_node gpus_per_task max_num_timeout signal_delay_s",
    None: "tile memory_gb max_gb tlc_crop gradient_clip_val max_time profiler "
    "val_crop_size num_workers weights every_n_epochs save_on_train_epoch_end trial "
    "max_batch_size n_jobs timeout num_cpus cpus_per_task cpus_per_gpu gpus_per_node "
    "gpus_per_task shard_mb",
    "abc": "device",
    math.nan: "",
    math.inf: "",
    10**400: "",
    "5": "devices",
}  # fmt: skip
LISTS: dict[Any, str] = {
    (0.5,): "weights tags",
    (0, -1): "tags",
    (math.nan, 1): "",
    ("abc",): "tags objectives allowed_hosts metrics",
    (): "tags objectives allowed_hosts metrics",
}


@pytest.mark.parametrize("value", [*RIGHT, *LISTS, True, {}], ids=lambda v: str(v)[:9])
def test_odd_values_are_accepted_by_rule_or_refused_with_the_key(
    found: dict[Any, tuple[Any, Any]], value: Any
) -> None:
    right = "" if value == {} else (RIGHT | LISTS).get(value, "")
    accepted = set()
    for key, (_, rule) in found.items():
        given = list(value) if isinstance(value, tuple) else value
        try:
            check_value(key, given, rule)
            accepted.add(key.rpartition(".")[2])
        except UserError as error:
            assert str(error).startswith(f"{key}=") and " must be " in str(error)
            assert len(str(error)) < 300
    if value is True:
        flags = {k.rpartition(".")[2] for k, (v, _) in found.items() if isinstance(v, bool)}
        assert accepted == flags
    else:
        assert accepted == set(right.split())


def test_whole_numbers_are_bounded(found: dict[Any, tuple[Any, Any]]) -> None:
    for key, (_, rule) in found.items():
        if "whole number" in rule.words or "multiple" in rule.words:
            with pytest.raises(
                UserError, match=r"less than 2147483648| to \d+|number other than 0"
            ):
                check_value(key, 2**70, rule)


@pytest.mark.parametrize("key", [key for key, of in KEYS.items() if of.type is not Any])
def test_wrong_type_is_refused_at_composition(key: str) -> None:
    register_resolvers()
    option = ["sweep=optuna"] if "sweep." in key or "pruner" in key else []
    option += ["callbacks=ema"] if ".ema." in key else []
    mode = next(mode for mode in ("train", *modes()) if key in mode_keys(mode))
    wrong = "[1]" if KEYS[key].type == dict[str, Any] else "{a: 1}"
    with pytest.raises(ConfigCompositionException) as error:
        compose(f"mode={mode}", *option, f"{key}={wrong}")
    sentence = explain(error.value)
    assert sentence and re.match(rf"{re.escape(key)}(=\S.*)? must be \w", sentence)


def test_wrong_type_in_a_file_is_refused_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    mine = tmp_path / "inference" / "mine.yaml"
    mine.write_text("defaults: [default]\noverlap: wide\n")
    where = f"hydra.searchpath=[{tmp_path}]"
    register_resolvers()
    with pytest.raises(ConfigCompositionException) as error:
        compose("mode=restore", "inference=mine", where)
    sentence = "inference.overlap=wide must be a whole number, 0 or more (conf/inference/mine.yaml)"
    assert explain(error.value) == sentence


def test_user_files_may_add_keys_and_other_classes(tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    mine = tmp_path / "module" / "mine.yaml"
    mine.write_text("defaults: [default]\n_target_: own.Module\nadded: 3\n")
    own = tmp_path / "module" / "own.yaml"
    own.write_text("_target_: own.Module\nmixup_alpha: often\n")
    where = f"hydra.searchpath=[{tmp_path}]"
    register_resolvers()
    assert compose("module=mine", where).module.added == 3
    assert compose("module=own", where).module.mixup_alpha == "often"
    assert compose("+module.added=[1]").module.added == [1]


def test_typed_nodes_keep_values_and_pickles() -> None:
    register_resolvers()
    given = {"mixup_alpha": 1, "mixup_after_epoch": 0}
    config = compose(*(f"module.{key}={value}" for key, value in given.items()))
    plain: Any = OmegaConf.to_container(pickle.loads(pickle.dumps(config)).module, resolve=True)
    assert {key: plain[key] for key in given} == given and type(plain["mixup_alpha"]) is int


def test_shipped_configurations_are_valid(configs: list[Any]) -> None:
    for config in configs:
        check_values(config)


def test_arguments_of_other_classes_are_not_checked() -> None:
    own = {"_target_": "own.Blur", "sigma": "wide", "length": -1, "p": [1]}
    optimizer = {"_target_": "own.Adan", "betas": [0.9, 0.9, 0.9], "eps": -1, "lr": 1e-3}
    strategy = {"_target_": "lightning.pytorch.strategies.DDPStrategy", "timeout": "long"}
    node = {"task": {"degradation": own}, "optimizer": optimizer, "trainer": {"strategy": strategy}}
    check_values(OmegaConf.create(node))


def test_references_are_followed_and_lists_within_classes_checked() -> None:
    node = {"my": {"rate": "fast"}, "optimizer": {"lr": "${my.rate}"}}
    with pytest.raises(UserError, match=r"^optimizer\.lr=fast must be a number above 0$"):
        check_values(OmegaConf.create(node))
    noise = {"_target_": "mprnet_lit.data.degradations.GaussianNoise", "sigma": [50, 0]}
    with pytest.raises(UserError, match=r"^task\.steps\.1\.sigma=\[50, 0\] must be a number, 0 or"):
        check_values(OmegaConf.create({"task": {"steps": [{}, noise]}}))


def build_data(config: DictConfig) -> Any:
    data = instantiate(config.data)
    data.train_samples = [Sample("a", PHOTOS / "chessboard_RGB.png", None, 200, 200)]
    return data.train_dataloader().dataset[ItemKey(0, 0)]


def ancestors(config: DictConfig, key: str) -> list[DictConfig]:
    """Return the mappings that contain a key, the outermost first."""
    parts = key.split(".")
    nodes = (OmegaConf.select(config, ".".join(parts[:count])) for count in range(1, len(parts)))
    return [node for node in nodes if OmegaConf.is_dict(node)]


def degrade_patch(config: DictConfig, key: str) -> Any:
    """Degrade a patch with the degradation, perhaps one of several, whose argument is ``key``."""
    *_, node = (n for n in ancestors(config, key) if "_target_" in n)
    degradation = instantiate(node)
    patch = np.full((64, 64, 3), 0.5, np.float32)
    return degradation(patch, np.random.default_rng(0))


# Functions that build a section of the configuration, or one of its keys, without training.
BUILDERS: dict[str, Callable[[DictConfig, str], object]] = {
    "trainer": lambda c, _: build_trainer(c),
    "callbacks": lambda c, _: build_callbacks(c),
    "module": lambda c, _: build_module(c, MPRNet(8, 4, 4, 1)),
    "optimizer": lambda c, _: build_module(c, MPRNet(8, 4, 4, 1)),
    "loss": lambda c, _: build_module(c, MPRNet(8, 4, 4, 1)),
    "data": lambda c, _: build_data(c),
    "task.degradation": degrade_patch,
    "task.augmentation": lambda c, _: build_data(c),
}


def test_accepted_values_can_be_built_or_are_refused_with_the_key() -> None:
    """Every value that the table accepts either builds or raises an error with the key."""
    register_resolvers()
    tried = {}
    for task in ("denoise", "deblur", "derain"):
        given = ("callbacks=ema", "trainer=cpu", "paths.run=x", "data.patch_size=8")
        config = compose(f"task={task}", *given)
        for key, before, rule in list(settings(config)):
            part = next((p for p in BUILDERS if key.startswith(f"{p}.")), None)
            for value in (-1, 0, None, 1):
                if part is None or (key, value) in tried or not rule.accepts(value):
                    continue
                tried[key, value] = part
                OmegaConf.update(config, key, value)
                try:
                    BUILDERS[part](config, key)
                except UserError as error:
                    assert key.rpartition(".")[2] in str(error)
                    assert str(error).startswith(part)
                OmegaConf.update(config, key, before)
    assert set(tried.values()) == set(BUILDERS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=-1"], "seed=-1 must be a whole number from 0 to 4294967295"),
        (["seed=1180591620717411303424"], "seed=1180591620717411303424 must be a whole"),
        (["seed=8589934592"], "seed=8589934592 must be a whole number from 0 to 4294967295\n"),
        (["trainer.max_epochs=8589934592"], "whole number, -1 or more, and less than 2147483648\n"),
        ([f"optimizer.lr={10**31}"], "must be a number above 0, finite and at most 1e+30\n"),
        (["data.num_workers=-1"], "data.num_workers=-1 must be a whole number from 0 to 1024"),
        (["trainer.check_val_every_n_epoch=0"], "n_epoch=0 must be a whole number, 1 or more"),
        (["trainer.accumulate_grad_batches=0"], "batches=0 must be a whole number, 1 or more"),
        (["optimizer.betas=[0.5]"], "optimizer.betas=[0.5] must be a list of 2 items, each a"),
        (["optimizer.lr=abc"], "optimizer.lr=abc must be a number above 0"),
        (["optimizer.lr=nan"], "optimizer.lr=nan must be a number above 0, finite"),
        (["trainer.max_epochs=abc"], "max_epochs=abc must be a whole number, -1 or more"),
        (["trainer.max_epochs=-1"], "set trainer.max_epochs or trainer.max_steps"),
        (["trainer.devices=0"], "trainer.devices=0 must be a number of devices, 1 or more"),
        (["trainer.devices=-1"], "trainer.devices=-1 must be a number of processes, 1 or more"),
        (["trainer.strategy=deepspeed"], "trainer.strategy=deepspeed needs GPUs"),
        (["trainer.strategy=fsdp_cpu_offload"], "fsdp_cpu_offload must be one of auto, ddp, ddp_"),
        (["mode=evaluate", "inference.tlc=perhaps"], "inference.tlc=perhaps must be true or false"),
        (
            [
                "task=derain",
                "data.degradation=${task.quickstart_degradation}",
                "task.quickstart_degradation.length=0.5",
            ],
            "data.degradation: RainStreaks length=",
        ),
        (
            ["launch=joblib", "--multirun", "hydra.launcher.n_jobs=0", "seed=1,2"],
            "n_jobs=0 must be",
        ),
        (["launch=joblib", "--multirun", "hydra.launcher.n_jobs=x", "seed=1,2"], "n_jobs=x: Value"),
        (["--multirun", "optimizer.eps=0", "seed=1,2"], "optimizer.eps=0 must be a number above 0"),
    ],
)
def test_invalid_values_are_reported_in_one_sentence(
    cli: Cli, arguments: list[str], expected: str
) -> None:
    loggers = () if "mode=evaluate" in arguments else ("logger=none",)
    assert expected in error_message(cli(*arguments, *loggers, status=1))


def test_missing_gpus_are_reported(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("tests.conftest.QUICK", ("data.num_workers=0",))
    message = error_message(cli("trainer=ddp", "logger=none", status=1))
    assert "trainer.accelerator=gpu needs a GPU, and torch finds none on this machine" in message
    assert "trainer=cpu trainer.strategy=ddp trainer.devices=2" in message
