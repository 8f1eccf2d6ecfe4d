"""What ``--help`` and ``--version`` print."""

import platform
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from mprnet_lit import __version__
from mprnet_lit.config.groups import CONFIG_DIR, about, file_settings, groups, option_keys, package

WIDTH = 100


@dataclass(frozen=True)
class Mode:
    """What the help says of a mode.

    Attributes:
        purpose: what it does.
        main: the settings that matter most, which the first screen names.
        groups: the groups that it uses; ``*``: all.
        others: the settings that it uses besides those of its own file; ``*``: all.
    """

    purpose: str
    main: str
    groups: str = ""
    others: str = ""


MODES = {
    "train": Mode(
        "train a network; the mode of a command that names none",
        "task model data data.train.folder experiment weights resume data.batch_size "
        "trainer.max_epochs trainer.devices",
        "*",
        "*",
    ),
    "restore": Mode(
        "restore photos and videos, with the weights in the package or your own",
        "input output task weights tile tlc self_ensemble compare report overwrite",
        "task",
        "weights",
    ),
    "evaluate": Mode(
        "score a network on your own pairs or on a published test set",
        "input target protocol benchmark benchmark.root weights task tile tlc perceptual",
        "task benchmark trainer",
        "weights benchmark data.on_error trainer.accelerator trainer.devices paths",
    ),
    "serve": Mode(
        "open a page in the browser that restores photos",
        "weights host port max_mb max_megapixels tile memory_gb tlc precision device",
        others="weights",
    ),
    "report": Mode("make a page of a run, or of many runs", "input output overwrite"),
    "export": Mode(
        "write a network as ONNX or torch.export",
        "weights output int8 overwrite task data",
        "task data",
        "weights data paths seed",
    ),
    "convert": Mode(
        "write weights in another format", "weights output overwrite task", "task", "weights"
    ),
    "prepare": Mode(
        "decode a data set once, into a store",
        "data output verify data.on_error data.num_workers paths.gopro paths.sidd paths.rain13k",
        "data",
        "data paths",
    ),
    "benchmark": Mode(
        "measure training steps, and the largest batch that fits",
        "model data.patch_size trainer.precision largest_batch steps memory_gb output task "
        "trainer.accelerator module.gradient_checkpointing",
        "model task data trainer",
        "model data trainer module weights task",
    ),
}
_INTRODUCTION = """\
mprnet_lit {version}: train, evaluate and run MPRNet to deblur, denoise or derain photographs.

  mprnet_lit restore photo.jpg              write restored/photo.jpg
  mprnet_lit deblur shots output=sharp      restore a folder for another task
  mprnet_lit evaluate noisy clean           score restorations of one folder against another
  mprnet_lit train task=derain data=clean data.train.folder=photos
  mprnet_lit -m model=tiny,small            a sweep: train once with each value

Type mprnet_lit [MODE] [FILE ...] [KEY=VALUE ...]. The modes, each with its main settings:
"""
_END = """\
mprnet_lit MODE --help   all settings of a mode     ... --cfg job    show the configuration only
mprnet_lit --hydra-help  the flags of Hydra         ... --version    show the versions
"""


def answer(arguments: Sequence[str]) -> str | None:
    """Return the text that a translated command asks for; ``None`` for any other command."""
    if "--version" in arguments:
        return _versions()
    if {"-h", "--help"}.isdisjoint(arguments):
        return None
    settings = [argument for argument in arguments if not argument.startswith("-")]
    overrides = [setting for setting in settings if "=" in setting or setting[0] == "~"]
    modes = [o.partition("=")[2] for o in overrides if o.startswith("mode=")]
    folders = [
        f"hydra.searchpath=[file://{Path(folder).resolve()}]"
        for flag, folder in pairwise(arguments)
        if flag in ("-cd", "--config-dir")
    ]
    return _mode_help(modes[-1], [*folders, *overrides]) if modes else overview()


def _versions() -> str:
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "is not installed"
    return f"mprnet_lit {__version__}, torch {torch}, Python {platform.python_version()}"


def overview() -> str:
    """Return the first screen: the modes with their main settings."""
    lines = [_INTRODUCTION.format(version=__version__)]
    for name, mode in MODES.items():
        settings = textwrap.wrap(mode.main, WIDTH - 14, break_on_hyphens=False)
        lines.append(f"  {name:<10}  {mode.purpose}")
        lines += [f"{'':14}{line}" for line in settings]
    return "\n".join([*lines, "", _END.rstrip()])


def _mode_help(mode: str, overrides: Sequence[str]) -> str:
    """Return all settings that a mode has, as the overrides set them."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    named = MODES.get(mode, Mode("a mode of your own", "", "*", "*"))
    own = option_keys("mode", mode) if mode in MODES else frozenset()
    lines = [f"mprnet_lit {mode}: {named.purpose}", ""]
    examples = about(CONFIG_DIR / "mode" / f"{mode}.yaml") if mode in MODES else []
    lines += [*(f"  {line}" for line in examples), ""] if examples else []
    lines += ["Groups, of each of which a command chooses one option (GROUP=OPTION):", ""]
    for group, options in groups().items():
        if group != "mode" and _covers(named.groups, group):
            lines += _entry(f"{group}={choices[group] or 'null'}", f"of {', '.join(options)}")
    lines += ["", "Settings, with their values in this command (KEY=VALUE):", ""]
    comments = _comments(choices)
    for key, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        mine = key in own or _covers(named.others, key)
        if mine and not key.startswith(("hydra.", "mode.")):
            lines += _entry(f"{key}={value}", comments.get(key, ""))
    return "\n".join(lines)


def _covers(names: str, key: str) -> bool:
    return names == "*" or any(f"{key}.".startswith(f"{name}.") for name in names.split())


def _comments(choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the comments of the files that a command is composed of, by key."""
    chosen = [CONFIG_DIR / group / f"{option}.yaml" for group, option in choices.items()]
    shared = [path for file in chosen for path in sorted(file.parent.glob("_*.yaml"))]
    comments = {}
    for path in (CONFIG_DIR / "config.yaml", *shared, *chosen):
        for setting in file_settings(path) if path.exists() else ():
            if setting.comment:
                comments[package(path) + setting.key] = setting.comment
    return comments


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting with its value on one line, as the command line takes it."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
            plain = value if isinstance(value, str) else text.removesuffix("...\n").strip()
            yield f"{prefix}{key}", plain


def _entry(setting: str, comment: str) -> list[str]:
    """Return a setting and, beside or below it, what it means."""
    lines = textwrap.wrap(comment, WIDTH - 36, break_on_hyphens=False)
    if len(setting) > 31 or not lines:
        return [f"  {setting}", *(f"{'':36}{line}" for line in lines)]
    return [f"  {setting:<34}{lines[0]}", *(f"{'':36}{line}" for line in lines[1:])]
