"""The settings of a run as they are written: without credentials, and without the environment's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from mprnet_lit.utils.atomic import write_whole
from mprnet_lit.utils.masking import HIDDEN, mask, may_hold_secrets, secrets

NOT_THE_RUN = ("hydra", "paths", "resume", "logger", "tracking", "sweep")
"""Top-level keys that do not change the result of a training."""
_HYDRA = ("config.yaml", "overrides.yaml", "hydra.yaml")


def recorded(config: DictConfig, *, numbers: bool = False) -> dict[str, Any]:
    """Return a configuration resolved but for what the environment says, with credentials hidden.

    A value that comes from an environment variable, directly or through another key, stays the
    interpolation that it is written as.

    Args:
        config: configuration of a command.
        numbers: whether numbers and truth values are resolved wherever they come from.
    """
    hidden = set(secrets(OmegaConf.to_container(config, resolve=True)))
    with _traced() as used:
        values = _record(config, used, numbers)
    return dict(_replace(mask(values), hidden))


def mask_hydras_records(config: HydraConf) -> None:
    """Hide the credentials in what Hydra wrote of a command into its folder, or that of its sweep.

    Args:
        config: Hydra's own configuration, of the key ``hydra``.

    Raises:
        UserError: a record that holds credentials can't be replaced.
    """
    places = [Path(config.sweep.dir) / "multirun.yaml"]
    if config.output_subdir is not None:
        folder = Path(config.runtime.output_dir) / config.output_subdir
        places += [folder / name for name in _HYDRA]
    for path in places:
        if not (path.is_file() and may_hold_secrets(text := path.read_text(encoding="utf-8"))):
            continue
        content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        masked = mask(content)
        if masked != content:
            write_whole(path, OmegaConf.to_yaml(OmegaConf.create(masked)).encode())


def overrides_as_written() -> list[str]:
    """Return the overrides of this command; Hydra would resolve the interpolations in them."""
    # Typed as the configuration below "hydra", which it holds.
    hydra: Any = HydraConfig.instance().cfg
    written: Any = OmegaConf.to_container(hydra.hydra.overrides.task, resolve=False)
    return [str(override) for override in written]


@contextmanager
def _traced() -> Iterator[list[str]]:
    """Yield a list that gets the name of each environment variable that an interpolation reads."""
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
    if isinstance(node, DictConfig):
        return {str(key): _child(node, key, used, numbers) for key in node}
    return [_child(node, index, used, numbers) for index in range(len(node))]


def _child(node: DictConfig | ListConfig, key: Any, used: list[str], numbers: bool) -> Any:
    if OmegaConf.is_missing(node, key):
        return "???"
    used.clear()
    value = node[key]
    resolved = numbers and isinstance(value, bool | int | float)
    if used and not resolved and OmegaConf.is_interpolation(node, key):
        return _written(node)[key]
    return _record(value, used, numbers) if isinstance(value, DictConfig | ListConfig) else value


def _written(node: DictConfig | ListConfig) -> Any:
    """Return a node with its interpolations as they are written."""
    return OmegaConf.to_container(node, resolve=False)


def _replace(value: Any, hidden: set[str]) -> Any:
    """Hide texts wherever they stand."""
    if isinstance(value, dict):
        return {key: _replace(child, hidden) for key, child in value.items()}
    if isinstance(value, list):
        return [_replace(child, hidden) for child in value]
    if isinstance(value, str):
        for text in sorted(hidden, key=len, reverse=True):  # one may hold another
            value = value.replace(text, HIDDEN)
    return value
