"""Cache of the compositions of the package's own configuration, which take a fifth of the suite.

Hydra composes the files and the schemas of each command anew. The result depends only on the chosen
options of the groups, and on the machine. The values of the command are applied afterwards. Workers
of pytest-xdist share the compositions. Each process also caches the files and the syntax trees of
interpolations.
"""

import copy
import functools
import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import omegaconf.base
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import DefaultsList
from hydra.core.default_element import InputDefault
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.resolvers import machine

_Loader = config_loader_impl.ConfigLoaderImpl
_create = defaults_list.create_defaults_list
_compose = _Loader._compose_config_from_defaults_list
_load = CachingConfigRepository.load_config
_interpolation_map = defaults_list._create_interpolation_map
_cached: dict[Any, bytes] = {}
_files: dict[str, bytes] = {}


def not_shared(name: str, make: Callable[[], bytes]) -> bytes:
    """Return new content; see the fixture ``shared``, which replaces this function."""
    return make()


shared: Callable[[str, Callable[[], bytes]], bytes] = not_shared


def cache_compositions() -> None:
    """Replace the composition of Hydra by one with a cache, in this process and in its forks."""
    config_loader_impl.create_defaults_list = _defaults_list  # type: ignore
    _Loader._compose_config_from_defaults_list = _config  # type: ignore
    CachingConfigRepository.__init__ = _initialize  # type: ignore[method-assign]
    CachingConfigRepository.load_config = _file  # type: ignore[method-assign]
    defaults_list._create_interpolation_map = _choices  # type: ignore[assignment]
    # A visitor reads the tree and does not change it.
    omegaconf.base.parse = functools.cache(omegaconf.base.parse)  # type: ignore[attr-defined]


def _copy_of(key: Any, make: Callable[[], Any]) -> Any:
    """Return a copy of the object with this key, which the first call makes."""
    if key not in _cached:
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        _cached[key] = shared(name, lambda: pickle.dumps(make()))
    return pickle.loads(_cached[key])


def _is_own(repository: CachingConfigRepository) -> bool:
    """Return whether no folder but that of the package contains configuration files."""
    return all(
        source.path == str(CONFIG_DIR)
        for source in repository.get_sources()
        if source.scheme() == "file"
    )


def _defaults_list(
    repo: CachingConfigRepository, config_name: str, overrides_list: list[Any], **options: bool
) -> DefaultsList:
    chosen, values = [], []
    for override in overrides_list:
        is_group = not override.is_sweep_override() and repo.group_exists(override.key_or_group)
        if is_group and not isinstance(override.value(), dict):
            chosen.append(override.input_line)
        elif not override.is_sweep_override():
            values.append(override)
    key = config_name, tuple(chosen), tuple(options.items()), machine("auto")
    if not _is_own(repo):
        return _create(repo, config_name, overrides_list, **options)
    found: DefaultsList = _copy_of(
        key, lambda: _create(repo, config_name, overrides_list, **options)
    )
    found.config_overrides = values
    return found


def _config(loader: Any, defaults: list[Any], repo: CachingConfigRepository) -> Any:
    if not _is_own(repo):
        return _compose(loader, defaults, repo)
    key = tuple((d.config_path, d.parent, d.package, d.is_self, d.primary) for d in defaults)
    return _copy_of(key, lambda: _compose(loader, defaults, repo))


def _initialize(self: CachingConfigRepository, delegate: Any) -> None:
    """Copy the repository without its sources, which Hydra replaces but never changes."""
    self.delegate = copy.copy(delegate)
    self.cache = {}


def _file(self: CachingConfigRepository, config_path: str) -> ConfigResult | None:
    """Load each file once per process. A composition changes its copy."""
    if not _is_own(self):
        return _load(self, config_path)
    if (key := f"config_path={config_path}") not in self.cache:
        if config_path not in _files:
            _files[config_path] = pickle.dumps(_load(self, config_path))
        self.cache[key] = pickle.loads(_files[config_path])
    return self.cache[key]


def _choices(overrides: Any, defaults: list[InputDefault], self_added: bool) -> DictConfig:
    """Return the chosen options only if the file interpolates them."""
    if any(default.is_interpolation() for default in defaults):
        return _interpolation_map(overrides, defaults, self_added)
    return DictConfig({})
