"""Types and rules of the configuration's own keys.

OmegaConf checks types at composition: the defaults list of a configuration file includes the
schemas of its nodes. ``config/values.py`` checks the rules, including those for resolved values,
before a mode or a sweep starts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, NamedTuple, dataclass_transform, get_args

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mprnet_lit.config import rules
from mprnet_lit.config.groups import modes, own_keys
from mprnet_lit.utils.compat import typed_nodes

Number = int | float

NODES: dict[str, type] = {}
"""Schema of each node by the key of the node; the key of the root is empty."""
KEYS: dict[str, "Key"] = {}
"""Type and rule by dotted key."""
RULES: dict[str, dict[str, rules.Rule]] = {}
"""Rules by section and key. A section is the class of a node or, without a class, its key."""


class Key(NamedTuple):
    """Type and rule of a key.

    Attributes:
        type: type annotation.
        rule: rule for the values; ``None`` if only the type is checked.
    """

    type: Any
    rule: rules.Rule | None

    @property
    def words(self) -> str:
        """Completion of the sentence "KEY=VALUE must be ..."."""
        words = {str: "text", dict[str, Any]: "a mapping"}
        return self.rule.words if self.rule else words.get(self.type, "one text, or null")


def _ruled(rule: rules.Rule) -> Any:
    """Return a field with a rule for its values; an optional type also accepts null."""
    return field(metadata={"rule": rule})


@dataclass_transform(kw_only_default=True, field_specifiers=(_ruled,))
def _node(key: str, target: str = "") -> Callable[[type], type]:
    """Return a decorator that makes a class the schema of a node.

    Args:
        key: key of the node.
        target: default class in the ``_target_`` of the node, without the package; the rules
            apply to this class only.
    """

    def add(schema: type) -> type:
        NODES[key] = dataclass(kw_only=True)(schema)
        found = RULES[f"mprnet_lit.{target}" if target else key] = {}
        for item in fields(schema):
            rule = rules.FLAG if item.type is bool else item.metadata.get("rule")
            if rule and NoneType in get_args(item.type):
                rule |= rules.NULL
            if rule:
                found[item.name] = rule
            KEYS[f"{key}.{item.name}".lstrip(".")] = Key(item.type, rule)
        return schema

    return add


@_node("")
class Root:
    """Keys at the root; each mode has a subset."""

    seed: int = _ruled(rules.SEED)
    resume: str | None
    input: Any
    output: str | None
    weights: Any
    overwrite: bool


@_node("inference")
class Inference:
    """Application of a network to an image."""

    tile: int | str | None = _ruled(rules.one_of("auto") | rules.SIDE)
    overlap: int = _ruled(rules.whole(0))
    tile_batch: int = _ruled(rules.COUNT)
    memory_gb: Number | None = _ruled(rules.AMOUNT)
    tlc: bool
    tlc_crop: int | None = _ruled(rules.SIDE)
    self_ensemble: bool
    precision: int | str = _ruled(rules.one_of("32", "bf16", "16"))
    device: str = _ruled(rules.text(r"auto|[a-z]+(:\d+)?", "auto, cpu, cuda, cuda:1 or the like"))
    compile: bool


@_node("restore")
class Restore:
    """Keys of mode=restore."""

    stages: bool
    compare: bool
    report: bool


@_node("evaluate")
class Evaluate:
    """Keys of mode=evaluate."""

    target: str | None
    input_pattern: str
    target_pattern: str
    protocol: str | None
    perceptual: bool
    on_error: str = _ruled(rules.one_of("raise", "skip"))


@_node("serve")
class Serve:
    """Keys of mode=serve."""

    host: str
    port: int = _ruled(rules.whole(1, 65535))
    allowed_hosts: list[str] = _ruled(rules.listed(rules.TEXT))
    max_mb: Number = _ruled(rules.AMOUNT)
    max_megapixels: Number = _ruled(rules.AMOUNT)
    max_gb: Number | None = _ruled(rules.AMOUNT)
    max_total_mb: Number = _ruled(rules.number(above=0, high=1e9))
    max_age_minutes: Number = _ruled(rules.number(above=0, high=1e7))


@_node("export")
class Export:
    """Keys of mode=export."""

    int8: bool


@_node("prepare")
class Prepare:
    """Keys of mode=prepare."""

    verify: bool


@_node("profile")
class Profile:
    """Keys of mode=profile."""

    memory_gb: Number | None = _ruled(rules.AMOUNT)
    largest_batch: int = _ruled(rules.COUNT)
    steps: int = _ruled(rules.COUNT)


@_node("model")
class Model:
    """Hyperparameters of the network."""

    width: int = _ruled(rules.whole(1, 4096))
    unet_step: int = _ruled(rules.whole(0, 4096))
    orsnet_step: int = _ruled(rules.whole(0, 4096))
    cabs_per_orb: int = _ruled(rules.whole(1, 1024))
    reduction: int = _ruled(rules.whole(1, 4096))
    start_from_identity: bool


@_node("module", "training.module.RestorationModule")
class Module:
    """Arguments of the Lightning module."""

    mixup_alpha: Number = _ruled(rules.NOT_NEGATIVE)
    mixup_after_epoch: int = _ruled(rules.whole(0))
    channels_last: bool
    compile: bool
    gradient_checkpointing: bool
    seed: int = _ruled(rules.SEED)


@_node("schedule", "training.schedule.WarmupCosine")
class Schedule:
    """Arguments of the learning rate schedule."""

    warmup_epochs: Number = _ruled(rules.NOT_NEGATIVE)
    extra_period: Number = _ruled(rules.NOT_NEGATIVE)
    final_lr: Number = _ruled(rules.NOT_NEGATIVE)
    per_step: bool


@_node("data", "data.RestorationDataModule")
class Data:
    """Arguments of the data module, except nested nodes."""

    patch_size: int = _ruled(rules.SIDE)
    val_crop_size: int | None = _ruled(rules.COUNT)
    batch_size: int = _ruled(rules.COUNT)
    crops_per_image: int = _ruled(rules.whole(1, 1_000_000))
    holdout: float = _ruled(rules.number(above=0, below=1))
    on_error: str = _ruled(rules.one_of("raise", "skip"))
    num_workers: int | None = _ruled(rules.whole(0, rules.CORES))
    cache_gb: Number = _ruled(rules.number(0, 1e6))
    seed: int = _ruled(rules.SEED)


@_node("tracking")
class Tracking:
    """Settings of all loggers."""

    group: str | None
    tags: list[Any] = _ruled(rules.listed(rules.TEXT | rules.NUMBER))
    log_weights: bool
    max_weights_mb: Number = _ruled(rules.NOT_NEGATIVE)


@_node("sweep")
class Sweep:
    """Settings of a sweep with Optuna."""

    name: str
    trials: int = _ruled(rules.COUNT)
    jobs: int = _ruled(rules.COUNT)
    objectives: list[str] = _ruled(rules.listed(rules.TEXT))
    space: dict[str, Any]
    startup_trials: int = _ruled(rules.COUNT)
    storage: str
    trial: int | None = _ruled(rules.whole(0))


@_node("callbacks.panels", "training.callbacks.Panels")
class Panels:
    """Arguments of the callback that logs validation images."""

    count: int = _ruled(rules.whole(0))


@_node("callbacks.peer_check", "training.callbacks.PeerCheck")
class PeerCheck:
    """Arguments of the callback that reports a lost process."""

    timeout: Number = _ruled(rules.number(above=0, high=31_536_000))


@_node("callbacks.skip_nonfinite", "training.callbacks.SkipNonFinite")
class SkipNonFinite:
    """Arguments of the callback that skips steps with a non-finite loss or gradient."""

    max_consecutive: int = _ruled(rules.COUNT)


@_node("callbacks.stop_on_signal", "training.callbacks.StopOnSignal")
class StopOnSignal:
    """Arguments of the callback that saves a checkpoint on a signal."""

    requeue: bool


@_node("callbacks.log_run", "training.callbacks.LogRun")
class LogRun:
    """Arguments of the callback that logs the settings and the weights of a run."""

    log_weights: bool
    max_weights_mb: Number = _ruled(rules.NOT_NEGATIVE)


@_node("callbacks.pruner", "sweeps.pruner.Pruner")
class Pruner:
    """Arguments of the callback that prunes the trials of a sweep."""

    storage: str
    study: str
    trial: int | None = _ruled(rules.whole(0))
    startup_trials: int = _ruled(rules.COUNT)
    warmup_epochs: int = _ruled(rules.whole(0))


def register_schema() -> None:
    """Register the schemas, which the files of ``conf/`` include as ``/schema/NAME``.

    NAME is the last part of the key of a node. A schema with the name of a mode contains the root
    keys and the node of the mode. Schemas are stored as plain nodes, because a dataclass would
    reject additional keys in custom configuration files.
    """
    nodes: dict[str, Any] = {
        key.rpartition(".")[2]: typed_nodes(schema) for key, schema in NODES.items()
    }
    root = nodes.pop("")
    for mode in modes():
        own = {key: node for key, node in root.items() if key in own_keys(mode)}
        nodes[mode] = own | ({mode: nodes[mode]} if mode in nodes else {})
    for name, node in nodes.items():
        ConfigStore.instance().store(group="schema", name=name, node=OmegaConf.create(node))
