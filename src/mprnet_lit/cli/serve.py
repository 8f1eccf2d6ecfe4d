"""``mode=serve``: serve a web page that restores photos."""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mprnet_lit.cli.restorer import build_restorer, weights_file
from mprnet_lit.serving.allowed_hosts import is_loopback
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.photo_restorer import PhotoRestorer
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.url import is_url
from mprnet_lit.weights.shipped import SHIPPED, shipped


def run(config: DictConfig) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    allowed = _allowed_hosts(config)
    from mprnet_lit.serving.page import build_app
    from mprnet_lit.serving.server import serve

    console, options = Console(), config.serve
    host = str(options.host)
    if not is_loopback(host):
        print_line(
            console,
            f"Warning: serve.host={host}: any client that can reach this address can use the page",
        )
    restorer = PhotoRestorer(
        _weights(config), lambda file, tlc: build_restorer(config, file, tlc=tlc)
    )
    limits = Limits(options.max_mb, options.max_megapixels, options.max_gb)
    build = partial(
        build_app,
        restorer,
        limits,
        host=host,
        allowed_hosts=allowed,
        tlc=config.inference.tlc,
        self_ensemble=config.inference.self_ensemble,
        strength=config.inference.strength,
    )
    serve(build, host, options.port, options.max_total_mb, options.max_age_minutes, console)


def _allowed_hosts(config: DictConfig) -> list[str]:
    """Return the additional host names that browsers may use for the page."""
    names = config.serve.allowed_hosts
    if not OmegaConf.is_list(names) or not all(
        isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in names
    ):
        raise UserError(
            f"serve.allowed_hosts={names} must be a list of names without ports, such as "
            "[photos.example.org]"
        )
    return list(names)


def _weights(config: DictConfig) -> dict[str, str]:
    """Return the weights files by name; by default those in the package, ``task`` first."""
    if config.weights is None:
        default = Path(weights_file(config)).stem
        return {name: str(shipped(name)) for name in dict.fromkeys((default, *SHIPPED))}
    if OmegaConf.is_dict(config.weights):
        named = OmegaConf.to_container(config.weights, resolve=True)
        if not isinstance(named, Mapping) or not named or None in named.values():
            raise UserError("each entry of weights must name a file: {NAME: FILE}")
        return {str(name): str(file) for name, file in named.items()}
    file = str(config.weights)
    shown = re.split("[?#]", file)[0] if is_url(file) else file  # no signature, no checksum
    return {Path(shown).name or file: file}  # the page does not show the folder
