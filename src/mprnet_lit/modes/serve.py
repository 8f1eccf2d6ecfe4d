"""``mode=serve``: a page in the browser that restores photos."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mprnet_lit.errors import UserError
from mprnet_lit.modes import arguments
from mprnet_lit.serving.restoring import Choices, Limits
from mprnet_lit.tracking.terminal import say
from mprnet_lit.weights.shipped import SHIPPED, shipped


def run(config: DictConfig) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        UserError: gradio is not installed, the weights can't be read, an option can't be used, or
            the port is taken.
    """
    for name in ("max_mb", "max_megapixels"):
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise UserError(f"{name}={value} must be a number above 0")
    port = config.port
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise UserError(f"port={port} must be a whole number from 1 to 65535")
    from mprnet_lit.serving.page import serve

    console = Console()
    host = str(config.host)
    if not _is_loopback(host):
        say(
            console, f"Warning: host={host}: anyone who reaches this machine there may use the page"
        )
    weights = _weights(config)
    choices = Choices(weights, lambda file, tlc: arguments.restorer(_with(config, file, tlc)))
    limits = Limits(float(config.max_mb), float(config.max_megapixels))
    serve(choices, limits, host, port, config.tlc, config.self_ensemble, console)


def _weights(config: DictConfig) -> dict[str, str]:
    """Return the weights' files by name; where none are named, those in the package."""
    if config.weights is None:
        return {name: str(shipped(name)) for name in SHIPPED}
    if OmegaConf.is_dict(config.weights):
        named = OmegaConf.to_container(config.weights, resolve=True)
        if not isinstance(named, Mapping) or not named or None in named.values():
            raise UserError("weights must name a file for each of its entries: {NAME: FILE}")
        return {str(name): str(file) for name, file in named.items()}
    file = str(config.weights)
    return {Path(file).name or file: file}  # visitors need not know the folders


def _with(config: DictConfig, file: str, tlc: bool) -> DictConfig:
    """Return the configuration for one of the weights."""
    values = {str(key): config[key] for key in arguments.INFERENCE}
    return OmegaConf.create(values | {"weights": file, "tlc": tlc})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
