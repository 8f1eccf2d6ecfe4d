"""Recorded settings and labels of a run, without credentials and environment variables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.masking import HIDDEN, find_secrets, mask, mask_text, may_contain_secrets

NOT_THE_RUN = ("hydra", "paths", "resume", "logger", "tracking", "sweep")
"""Top-level keys that do not change the result of a training run."""
_HYDRA = ("config.yaml", "overrides.yaml", "hydra.yaml")
_MAX_TAG = 64
"""Maximum length of a wandb tag in characters."""


def recorded(config: DictConfig, *, numbers: bool = False) -> dict[str, Any]:
    """Return a resolved configuration with masked credentials.

    Interpolations that use an environment variable, directly or indirectly, are not resolved.

    Args:
        config: configuration of a command.
        numbers: whether to resolve numbers and booleans from environment variables too.
    """
    with _traced() as used:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
        values = _record(config, used, numbers) if used else resolved
    return masked(values, resolved)


def masked(values: dict[str, Any], resolved: Any) -> dict[str, Any]:
    """Return settings without credentials.

    Args:
        values: settings to mask.
        resolved: resolved settings; their credentials are masked in all texts of ``values``.
    """
    secrets = sorted(set(find_secrets(resolved)), key=len, reverse=True)  # one may contain another
    return dict(_replace(mask(values), secrets))


def mask_hydras_records(config: HydraConf) -> None:
    """Mask the credentials in the files that Hydra wrote into the folder of a run or a sweep.

    Args:
        config: configuration of Hydra, under the key ``hydra``.

    Raises:
        UserError: a file with credentials can't be replaced.
    """
    places = [Path(config.sweep.dir) / "multirun.yaml"]
    if config.output_subdir is not None:
        folder = Path(config.runtime.output_dir) / config.output_subdir
        places += [folder / name for name in _HYDRA]
    for path in places:
        if not (path.is_file() and may_contain_secrets(text := path.read_text(encoding="utf-8"))):
            continue
        content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        if mask(content) != content:
            write_atomic(path, OmegaConf.to_yaml(OmegaConf.create(mask(content))).encode())


def overrides_as_written() -> list[str]:
    """Return the overrides of this command with unresolved interpolations."""
    # HydraConfig().cfg is annotated with the type of its child "hydra".
    hydra: Any = HydraConfig.instance().cfg
    written: Any = OmegaConf.to_container(hydra.hydra.overrides.task, resolve=False)
    return [str(override) for override in written]


def group(config: DictConfig) -> str:
    """Return the group of a run: ``tracking.group``, the name of its sweep, or its task."""
    if config.tracking.group is not None:
        return str(config.tracking.group)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        name = OmegaConf.select(config, "sweep.name")
        return str(name or Path(HydraConfig.get().sweep.dir).name)
    return str(config.task.name)


def tags(config: DictConfig) -> list[str]:
    """Return the tags of a run: ``tracking.tags``, then the overrides of the command.

    Credentials are masked.
    """
    overrides = overrides_as_written() if HydraConfig.initialized() else []
    own = [
        o for o in overrides if o.lstrip("+~").partition("=")[0].split(".")[0] not in NOT_THE_RUN
    ]
    named = [mask_text(str(tag)) for tag in (*config.tracking.tags, *own) if tag]
    return list(dict.fromkeys(tag[:_MAX_TAG] for tag in named))


def resolved_apart(config: DictConfig, apart: Sequence[str]) -> dict[str, Any]:
    """Return a resolved configuration without some of its top-level keys.

    Interpolations that use one of these keys, Hydra's settings or an environment variable, directly
    or indirectly, are not resolved.

    Args:
        config: configuration of a command.
        apart: top-level keys to remove.
    """
    values: Any = OmegaConf.to_container(config, resolve=False)
    node = OmegaConf.create({key: _marked(child, key in apart) for key, child in values.items()})
    with _traced() as used:
        OmegaConf.register_new_resolver("mprnet.apart", used.append, replace=True)
        return {key: _child(node, key, used, False) for key in values if key not in apart}


def _marked(node: Any, apart: bool) -> Any:
    """Return a node whose interpolations of Hydra's settings call the resolver ``mprnet.apart``.

    Args:
        node: unresolved node.
        apart: whether to replace every leaf of the node with a call of the resolver.
    """
    if isinstance(node, dict):
        return {key: _marked(child, apart) for key, child in node.items()}
    if apart:
        return "${mprnet.apart:setting}"
    if isinstance(node, list):
        return [_marked(child, apart) for child in node]
    return node.replace("${hydra:", "${mprnet.apart:") if isinstance(node, str) else node


@contextmanager
def _traced() -> Iterator[list[str]]:
    """Yield a list of the environment variables that resolved interpolations have read."""
    used: list[str] = []

    def read(name: str, *default: str | None) -> str | None:
        used.append(name)
        return oc.env(name, *default)

    OmegaConf.register_new_resolver("oc.env", read, replace=True)
    try:
        yield used
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _record(node: DictConfig | ListConfig, used: list[str], numbers: bool) -> Any:
    """Return a node as plain values; interpolations that use the environment stay unresolved."""
    if isinstance(node, DictConfig):
        return {str(key): _child(node, key, used, numbers) for key in node}
    return [_child(node, index, used, numbers) for index in range(len(node))]


def _child(node: DictConfig | ListConfig, key: Any, used: list[str], numbers: bool) -> Any:
    if OmegaConf.is_missing(node, key):
        return "???"
    used.clear()
    try:
        value = node[key]
    except OmegaConfBaseException:
        if not used:
            raise
        value = None
    resolved = numbers and isinstance(value, bool | int | float)
    if used and not resolved and OmegaConf.is_interpolation(node, key):
        written: Any = OmegaConf.to_container(node, resolve=False)
        return written[key]
    return _record(value, used, numbers) if isinstance(value, DictConfig | ListConfig) else value


def _replace(value: Any, secrets: Sequence[str]) -> Any:
    """Replace credentials in all texts of a value."""
    if isinstance(value, dict):
        return {str(key): _replace(child, secrets) for key, child in value.items()}
    if isinstance(value, list):
        return [_replace(child, secrets) for child in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value
