"""Types and rules of the configuration's own keys.

OmegaConf checks types at composition: the defaults list of a configuration file includes the
schemas of its nodes. ``config/values.py`` checks the rules, including those for resolved values,
before a mode or a sweep starts.
"""

from dataclasses import make_dataclass
from typing import Any, NamedTuple

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mprnet_lit.config.groups import modes, own_keys
from mprnet_lit.config.rules import (
    AMOUNT,
    CORES,
    COUNT,
    FLAG,
    NOT_NEGATIVE,
    NULL,
    NUMBER,
    SEED,
    SIDE,
    TEXT,
    Rule,
    listed,
    number,
    one_of,
    same,
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
    },
    "inference": {
        "tile": one_of("auto") | SIDE | NULL,
        "overlap": whole(0),
        "tile_batch": COUNT,
        "memory_gb": AMOUNT | NULL,
        "tlc_crop": SIDE | NULL,
        "precision": one_of("32", "bf16", "16"),
        "device": text(r"auto|[a-z]+(:\d+)?", "auto, cpu, cuda, cuda:1 or the like"),
    }
    | same(FLAG, "tlc self_ensemble compile"),
    "restore": same(FLAG, "stages compare report"),
    "evaluate": {
        "target": str | None,
        "input_pattern": str,
        "target_pattern": str,
        "protocol": str | None,
        "perceptual": FLAG,
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
    "prepare": {"verify": FLAG},
    "profile": {"memory_gb": AMOUNT | NULL, "largest_batch": COUNT, "steps": COUNT},
    "model": {"cabs_per_orb": whole(1, 1024), "start_from_identity": FLAG}
    | same(whole(1, 4096), "width reduction")
    | same(whole(0, 4096), "unet_step orsnet_step"),
    "module": {"mixup_alpha": NOT_NEGATIVE, "mixup_after_epoch": whole(0), "seed": SEED}
    | same(FLAG, "channels_last compile gradient_checkpointing"),
    "schedule": {"per_step": FLAG} | same(NOT_NEGATIVE, "warmup_epochs extra_period final_lr"),
    "data": {
        "patch_size": SIDE,
        "val_crop_size": COUNT | NULL,
        "batch_size": COUNT,
        "crops_per_image": whole(1, 1_000_000),
        "holdout": number(above=0, below=1),
        "on_error": one_of("raise", "skip"),
        "num_workers": whole(0, CORES) | NULL,
        "cache_gb": number(0, 1e6),
        "seed": SEED,
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
"""Rule, or only the type, of each key by node. The key of the root is empty."""

_CLASSES = {
    "module": "mprnet_lit.training.module.RestorationModule",
    "schedule": "mprnet_lit.training.schedule.WarmupCosine",
    "data": "mprnet_lit.data.RestorationDataModule",
    "callbacks.panels": "mprnet_lit.training.callbacks.Panels",
    "callbacks.peer_check": "mprnet_lit.training.callbacks.PeerCheck",
    "callbacks.skip_nonfinite": "mprnet_lit.training.callbacks.SkipNonFinite",
    "callbacks.stop_on_signal": "mprnet_lit.training.callbacks.StopOnSignal",
    "callbacks.log_run": "mprnet_lit.training.callbacks.LogRun",
    "callbacks.pruner": "mprnet_lit.sweeps.pruner.Pruner",
}
"""Default ``_target_`` of a node. The rules of the node apply to this class only."""


class Key(NamedTuple):
    """Type and rule of a key.

    Attributes:
        type: type annotation.
        rule: rule for the values; ``None`` if only the type is checked.
    """

    type: Any
    rule: Rule | None

    @property
    def words(self) -> str:
        """Completion of the sentence "KEY=VALUE must be ..."."""
        words = {str: "text", dict[str, Any]: "a mapping"}
        return self.rule.words if self.rule else words.get(self.type, "one text, or null")


KEYS = {
    f"{node}.{name}".lstrip("."): Key(of.type, of) if isinstance(of, Rule) else Key(of, None)
    for node, keys in SCHEMA.items()
    for name, of in keys.items()
}
"""Type and rule by dotted key."""
RULES = {
    _CLASSES.get(node, node): {name: of for name, of in keys.items() if isinstance(of, Rule)}
    for node, keys in SCHEMA.items()
}
"""Rules by section and key. A section is the class of a node or, without a class, its key."""


def register_schema() -> None:
    """Register the schemas, which the files of ``conf/`` include as ``/schema/NAME``.

    NAME is the last part of the key of a node. A schema with the name of a mode contains the root
    keys and the node of the mode. Schemas are stored as plain nodes, because a dataclass would
    reject additional keys in custom configuration files.
    """
    nodes: dict[str, Any] = {}
    for node, keys in SCHEMA.items():
        types = [(name, KEYS[f"{node}.{name}".lstrip(".")].type) for name in keys]
        nodes[node.rpartition(".")[2]] = typed_nodes(make_dataclass("Schema", types))
    root = nodes.pop("")
    for mode in modes():
        own = {key: node for key, node in root.items() if key in own_keys(mode)}
        nodes[mode] = own | ({mode: nodes[mode]} if mode in nodes else {})
    for name, node in nodes.items():
        ConfigStore.instance().store(group="schema", name=name, node=OmegaConf.create(node))
