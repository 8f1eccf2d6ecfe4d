"""Types and rules of the keys of this project, and rules for arguments of other classes.

OmegaConf checks types at composition: the defaults list of a configuration file includes the
schemas of its nodes. ``config/values.py`` checks the rules on the resolved values before a mode or
a sweep starts.
"""

import functools
from dataclasses import make_dataclass, replace
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mprnet_lit.config.groups import file_keys, modes
from mprnet_lit.config.rules import (
    AMOUNT,
    CORES,
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    NULL,
    NUMBER,
    POSITIVE,
    SEED,
    SHARE,
    SIDE,
    TEXT,
    Rule,
    listed,
    number,
    one_of,
    same,
    spread,
    text,
    whole,
)
from mprnet_lit.utils.compat import typed_nodes

SCHEMA: dict[str, dict[str, Any]] = {
    "": {
        "seed": SEED,
        "resume": str | None,
        "input": Any,
        "output": str | None,
        "weights": Any,
        "overwrite": FLAG,
        "lr_finder": FLAG,
    },
    "inference": {
        "tile": one_of("auto") | SIDE | NULL,
        "overlap": whole(0),
        "tile_batch": COUNT,
        "memory_gb": AMOUNT | NULL,
        "tlc_crop": SIDE | NULL,
        "strength": SHARE,
        "precision": one_of("32", "bf16", "16"),
        "device": text(r"auto|[a-z]+(:\d+)?", "auto, cpu, cuda, cuda:1 or the like"),
    }
    | same(FLAG, "tlc self_ensemble compile"),
    "restore": {"devices": COUNT | one_of("auto")} | same(FLAG, "stages compare report"),
    "evaluate": {
        "target": str | None,
        "input_pattern": str,
        "target_pattern": str,
        "protocol": str | None,
        "perceptual": FLAG,
        "metrics": listed(TEXT),
        "on_error": one_of("raise", "skip"),
    },
    "serve": {
        "host": str,
        "port": whole(1, 65535),
        "allowed_hosts": listed(TEXT),
        "max_gb": AMOUNT | NULL,
        "max_total_mb": number(above=0, high=1e9),
        "max_age_minutes": number(above=0, high=1e7),
    }
    | same(AMOUNT, "max_mb max_megapixels"),
    "export": {"int8": FLAG},
    "prepare": {
        "format": one_of("store", "webdataset"),
        "shard_mb": number(above=0, high=1e6) | NULL,
        "verify": FLAG,
    },
    "profile": {"memory_gb": AMOUNT | NULL, "largest_batch": COUNT, "steps": COUNT},
    "model": {"cabs_per_orb": whole(1, 1024), "start_from_identity": FLAG}
    | same(whole(1, 4096), "width reduction")
    | same(whole(0, 4096), "unet_step orsnet_step"),
    "module": {
        "mixup_alpha": NOT_NEGATIVE,
        "mixup_after_epoch": whole(0),
        "compile": one_of("auto") | FLAG,
        "seed": SEED,
    }
    | same(FLAG, "channels_last gradient_checkpointing"),
    "schedule": {"per_step": FLAG, "min_warmup_steps": whole(0)}
    | same(NOT_NEGATIVE, "warmup_epochs extra_period final_lr"),
    "data": {
        "patch_size": SIDE,
        "val_crop_size": COUNT | NULL,
        "batch_size": COUNT,
        "crops_per_image": whole(1, 1_000_000),
        "holdout": replace(number(above=0, below=1), type=float),
        "on_error": one_of("raise", "skip"),
        "num_workers": whole(0, CORES) | NULL,
        "cache_gb": number(0, 1e6),
        "seed": SEED,
        "degrade_on": one_of("auto", "cpu", "device"),
        "verify": FLAG,
    },
    "tracking": {
        "group": str | None,
        "tags": listed(TEXT | NUMBER),
        "log_weights": FLAG,
        "max_weights_mb": NOT_NEGATIVE,
    },
    "sweep": {
        "name": str,
        "objectives": listed(TEXT),
        "space": dict[str, Any],
        "storage": str,
        "trial": whole(0) | NULL,
    }
    | same(COUNT, "trials jobs startup_trials"),
    "callbacks.collapse_warning": {"after_steps": whole(0)},
    "callbacks.ema": {"decay": SHARE},
    "callbacks.image_quality": {"metrics": listed(TEXT)},
    "callbacks.panels": {"count": whole(0)},
    "callbacks.peer_check": {"timeout": number(above=0, high=31_536_000)},
    "callbacks.skip_nonfinite": {"max_consecutive": COUNT},
    "callbacks.stop_on_signal": {"requeue": FLAG},
    "callbacks.log_run": {"log_weights": FLAG, "max_weights_mb": NOT_NEGATIVE},
    "callbacks.pruner": {
        "storage": str,
        "study": str,
        "trial": whole(0) | NULL,
        "startup_trials": COUNT,
        "warmup_epochs": whole(0),
    },
}
"""Rule or type of each key, by node. The root node has an empty name."""

_CLASSES = {
    "module": "mprnet_lit.training.module.RestorationModule",
    "schedule": "mprnet_lit.training.schedule.WarmupCosine",
    "data": "mprnet_lit.data.*DataModule",
    "callbacks.collapse_warning": "mprnet_lit.training.callbacks.CollapseWarning",
    "callbacks.ema": "mprnet_lit.training.callbacks.EMA",
    "callbacks.image_quality": "mprnet_lit.training.callbacks.ImageQuality",
    "callbacks.panels": "mprnet_lit.training.callbacks.Panels",
    "callbacks.peer_check": "mprnet_lit.training.callbacks.PeerCheck",
    "callbacks.skip_nonfinite": "mprnet_lit.training.callbacks.SkipNonFinite",
    "callbacks.stop_on_signal": "mprnet_lit.training.callbacks.StopOnSignal",
    "callbacks.log_run": "mprnet_lit.training.callbacks.LogRun",
    "callbacks.pruner": "mprnet_lit.sweeps.pruner.Pruner",
}
"""Default ``_target_`` by node. The rules of the node apply to this class only."""

_NOT_ZERO = Rule("a whole number other than 0", lambda v: whole(-999).accepts(v) and v != 0)
_BATCHES = Rule(
    "a whole number of batches, 0 or more, or a fraction from 0.0 to 1.0",
    lambda v: whole(0).accepts(v) or (isinstance(v, float) and 0 <= v <= 1),
)
_DEVICES = Rule(
    "a number of devices, 1 or more, or a list of device indices, or -1 or auto for all devices",
    lambda v: (
        (whole(-1, CORES).accepts(v) and v != 0)
        or listed(whole(0), least=1).accepts(v)
        or text(r"auto|-1|0*[1-9]\d{0,3}|\d+(,\d*)+", "").accepts(v)
    ),
)
_DURATION = text(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}", "a duration DAYS:HOURS:MINUTES:SECONDS") | Rule(
    "a mapping of weeks, days, hours, minutes or seconds to numbers",
    lambda v: (
        isinstance(v, dict)
        and len(v) > 0
        and v.keys() <= {"weeks", "days", "hours", "minutes", "seconds"}
        and all(map(number(0, 1e6).accepts, v.values()))
    ),
)
_STRATEGY = text(
    "auto|single_device|fsdp|(ddp|deepspeed|xla)(_[a-z0-9_]+)?",
    "one of auto, ddp, ddp_spawn, ddp_fork, fsdp, single_device, deepspeed or another registered "
    "strategy of Lightning",
)
FOREIGN: dict[str, dict[str, Rule]] = {
    "trainer": {
        "accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
        "devices": _DEVICES,
        "num_nodes": whole(1, 2**20),
        "strategy": _STRATEGY,
        "precision": one_of(
            *("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
            *("transformer-engine", "transformer-engine-float16", "32", "bf16", "16", "64"),
        ),
        "max_time": _DURATION | NULL,
        "gradient_clip_val": NOT_NEGATIVE | NULL,
        "log_every_n_steps": whole(0),
        "deterministic": FLAG | one_of("warn"),
        "profiler": one_of("simple", "advanced", "pytorch", "xla") | NULL,
    }
    | same(whole(-1), "max_epochs max_steps num_sanity_val_steps")
    | same(COUNT, "accumulate_grad_batches check_val_every_n_epoch")
    | same(_BATCHES, "limit_train_batches limit_val_batches")
    | same(FLAG, "detect_anomaly use_distributed_sampler enable_model_summary"),
    "optimizer": {"_partial_": FLAG, "lr": POSITIVE},
    "torch.optim.Adam*": {
        "betas": listed(number(0, below=1), 2),
        "eps": POSITIVE,
        "weight_decay": NOT_NEGATIVE,
    },
    "torch.optim.SGD": {
        "momentum": number(0, below=1),
        "nesterov": FLAG,
        "weight_decay": NOT_NEGATIVE,
    },
    "mprnet_lit.training.losses.*": {"clamp": FLAG, "eps": POSITIVE}
    | same(NOT_NEGATIVE, "edge_weight frequency_weight perceptual_weight"),
    "mprnet_lit.data.[PS]*": {"split": one_of("train", "val")},  # Photos, Prepared and Shards
    "mprnet_lit.data.Patterns": {"probability": SHARE},
    "mprnet_lit.data.degradations.*": {
        "clip": FLAG,
        "filtered": SHARE,
        "shot": spread(POSITIVE),
        "read": spread(NOT_NEGATIVE) | NULL,
        "quality": spread(number(1, 100)),
        "factor": spread(number(1, 16)),
        "weights": listed(NOT_NEGATIVE, least=1) | NULL,
    }
    | same(spread(NOT_NEGATIVE), "sigma length noise layers density width angle size spread")
    | same(spread(NOT_NEGATIVE), "directions roll defocus radius")
    | same(spread(POSITIVE), "focal highlights")
    | same(spread(SHARE), "shake brightness haze color area falloff motion occlusion level")
    | same(spread(SHARE), "opacity relief airlight exposure"),
    "albumentations.*": {"p": SHARE},
    "albumentations.ColorJitter": {"hue": spread(number(-0.5, 0.5))}
    | same(spread(NOT_NEGATIVE), "brightness contrast saturation"),
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        "mode": one_of("min", "max"),
        "save_top_k": whole(-1),
        "every_n_epochs": whole(0) | NULL,
        "save_on_train_epoch_end": FLAG | NULL,
        "enable_version_counter": FLAG,
    },
    "lightning.pytorch.callbacks.EMAWeightAveraging": {"decay": SHARE},
    "lightning.pytorch.loggers.TensorBoardLogger": {"default_hp_metric": FLAG},
    "lightning.pytorch.loggers.WandbLogger": {"offline": FLAG},
    "benchmark": {"images": COUNT},
    "benchmark.sets.*": {"images": COUNT},
    "benchmark*.published.*": {"psnr": NUMBER, "ssim": number(-1, 1), "tlc": FLAG},
    "hydra_plugins.mprnet_lit_optuna.OptunaSweeper": {"seed": SEED}
    | same(COUNT, "trials jobs startup_trials"),
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": {"max_batch_size": COUNT | NULL},
    "hydra_plugins.hydra_joblib_launcher.*": {
        "n_jobs": _NOT_ZERO | NULL,
        "verbose": whole(0),
        "timeout": POSITIVE | NULL,
    },
    "hydra.launcher.ray.remote": {"num_cpus": NOT_NEGATIVE | NULL, "num_gpus": NOT_NEGATIVE},
    "hydra_plugins.hydra_submitit_launcher.*": {"stderr_to_stdout": FLAG}
    | same(COUNT, "timeout_min nodes tasks_per_node array_parallelism")
    | same(COUNT | NULL, "cpus_per_task cpus_per_gpu")
    | same(whole(0) | NULL, "gpus_per_node gpus_per_task")
    | same(whole(0), "max_num_timeout signal_delay_s"),
}
"""Rules for arguments of classes, by section and key.

A section is the dotted key of a node, or the class in its ``_target_``; ``*`` matches any text.
Keys without a rule are not checked, because custom classes may have any arguments.
"""


class Key(NamedTuple):
    """Type annotation and rule of a key; the rule is ``None`` if only the type is checked."""

    type: Any
    rule: Rule | None

    @property
    def words(self) -> str:
        """Completion of the sentence "KEY=VALUE must be ..."."""
        words = {str: "text", dict[str, Any]: "a mapping"}
        return self.rule.words if self.rule else words.get(self.type, "text, or null")


KEYS = {
    f"{node}.{name}".lstrip("."): (
        Key(rule.type, rule) if isinstance(rule, Rule) else Key(rule, None)
    )
    for node, keys in SCHEMA.items()
    for name, rule in keys.items()
}
"""Type and rule by dotted key."""
RULES = {
    _CLASSES.get(node, node): {name: rule for name, rule in keys.items() if isinstance(rule, Rule)}
    for node, keys in SCHEMA.items()
}
"""Rules by section and key. A section is the class of a node or, without a class, its key."""


@functools.cache
def register_schema() -> None:
    """Register the schemas, which the files of ``conf/`` include as ``/schema/NAME``, once.

    NAME is the last part of the key of a node. A schema with the name of a mode contains the root
    keys in the file of the mode, and the node of the mode. Schemas are stored as plain nodes,
    because a dataclass would reject additional keys in custom configuration files.
    """
    nodes: dict[str, Any] = {}
    for node, keys in SCHEMA.items():
        types = [(name, KEYS[f"{node}.{name}".lstrip(".")].type) for name in keys]
        nodes[node.rpartition(".")[2]] = typed_nodes(make_dataclass("Schema", types))
    root = nodes.pop("")
    for mode in modes():
        own = {key: node for key, node in root.items() if key in file_keys(mode)}
        nodes[mode] = own | ({mode: nodes[mode]} if mode in nodes else {})
    for name, node in nodes.items():
        ConfigStore.instance().store(group="schema", name=name, node=OmegaConf.create(node))
