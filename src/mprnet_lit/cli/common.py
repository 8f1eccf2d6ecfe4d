"""Functions that read the configuration values of several modes, without importing PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.outbox import uploaded


def inputs(config: DictConfig) -> list[str]:
    """Return the files, folders and globs of ``input`` as a list."""
    sources = config.input if OmegaConf.is_list(config.input) else [config.input]
    return [str(source) for source in sources]


def place(config: DictConfig, key: str) -> str:
    """Return the value of a key that names one file or folder."""
    value = OmegaConf.select(config, key, throw_on_missing=True)
    if OmegaConf.is_config(value):
        raise UserError(f"{key}={value} must name one file or folder")
    return str(value)


@contextmanager
def new_file(config: DictConfig) -> Iterator[Path]:
    """Yield ``output``, which must not exist unless ``overwrite`` is set; upload it to a URL."""
    with uploaded(place(config, "output"), overwrite=bool(config.overwrite)) as output:
        if output.exists() and not config.overwrite:
            raise UserError(f"{output} already exists: choose another output or add overwrite=true")
        yield output
