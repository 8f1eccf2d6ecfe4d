"""Output of ``--help`` and ``--version``."""

import platform
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from mprnet_lit import __version__
from mprnet_lit.cli.command_line import chosen_mode
from mprnet_lit.config.groups import CONFIG_DIR, about, file_settings, mode_options, package

WIDTH = 100


class Mode(NamedTuple):
    """Purpose of a mode, and its main settings for the overview."""

    purpose: str
    main: str


MODES = {
    "train": Mode(
        "train a network (the default mode)",
        "task model data data.train.folder experiment weights resume data.batch_size "
        "trainer.max_epochs trainer.devices",
    ),
    "restore": Mode(
        "restore photos and videos with the weights in the package or your own",
        "input output task weights inference.tile inference.tlc inference.strength "
        "restore.compare restore.report overwrite",
    ),
    "evaluate": Mode(
        "score a network on your own test set or on a published one",
        "input evaluate.target evaluate.protocol benchmark benchmark.root weights task "
        "inference.tile inference.tlc evaluate.perceptual",
    ),
    "serve": Mode(
        "serve a web page that restores photos",
        "weights serve.host serve.port serve.max_mb serve.max_megapixels inference.tile "
        "inference.memory_gb inference.tlc inference.precision inference.device",
    ),
    "report": Mode("write an HTML page about one run or several runs", "input output overwrite"),
    "export": Mode(
        "export a network to ONNX or torch.export", "weights output export.int8 overwrite task data"
    ),
    "convert": Mode("convert a weights file to another format", "weights output overwrite task"),
    "prepare": Mode(
        "decode a data set once into a store",
        "data output prepare.verify data.on_error data.num_workers paths.gopro paths.sidd "
        "paths.rain13k",
    ),
    "profile": Mode(
        "measure the time per training step and the largest batch that fits into memory",
        "model data.patch_size trainer.precision profile.largest_batch profile.steps "
        "profile.memory_gb output task trainer.accelerator module.gradient_checkpointing",
    ),
}
_INTRODUCTION = """\
mprnet_lit {version}: train, evaluate and run MPRNet to deblur, denoise or derain photographs.

  mprnet_lit restore photo.jpg              write restored/photo.jpg
  mprnet_lit deblur shots output=sharp      restore a folder for another task
  mprnet_lit evaluate noisy clean           restore the images in noisy, score them against clean
  mprnet_lit train task=derain data=clean data.train.folder=photos
  mprnet_lit -m model=tiny,small            a sweep: train once with each value

Type mprnet_lit [MODE] [FILE ...] [KEY=VALUE ...]. The modes, each with its main settings:
"""
_END = """\
mprnet_lit MODE --help   all settings of a mode     ... --cfg job    show the configuration only
mprnet_lit --hydra-help  the flags of Hydra         ... --version    show the versions
"""


def answer(arguments: Sequence[str]) -> str | None:
    """Return the output of ``--help`` or ``--version``; ``None`` for other commands."""
    if "--version" in arguments:
        python = platform.python_version()
        return f"mprnet_lit {__version__}, torch {version('torch')}, Python {python}"
    if {"-h", "--help"}.isdisjoint(arguments):
        return None
    settings = [argument for argument in arguments if not argument.startswith("-")]
    overrides = [setting for setting in settings if "=" in setting or setting[0] == "~"]
    folders = [
        f"hydra.searchpath=[file://{Path(folder).resolve()}]"
        for flag, folder in pairwise(arguments)
        if flag in ("-cd", "--config-dir")
    ]
    names_mode = any(override.startswith("mode=") for override in overrides)
    return _mode_help(chosen_mode(overrides), [*folders, *overrides]) if names_mode else overview()


def overview() -> str:
    """Return the overview: the modes with their main settings."""
    lines = [_INTRODUCTION.format(version=__version__)]
    for name, mode in MODES.items():
        settings = textwrap.wrap(mode.main, WIDTH - 14, break_on_hyphens=False)
        lines.append(f"  {name:<10}  {mode.purpose}")
        lines += [f"{'':14}{line}" for line in settings]
    return "\n".join([*lines, "", _END.rstrip()])


def _mode_help(mode: str, overrides: Sequence[str]) -> str:
    """Return the help of a mode: all settings, with their values in this command."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = hydra.compose(mode, overrides=list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    lines = [f"mprnet_lit {mode}: {MODES[mode].purpose}", ""]
    lines += [*(f"  {line}" for line in about(CONFIG_DIR / f"{mode}.yaml")), ""]
    options = {group: names for group, names in mode_options(mode).items() if len(names) != 1}
    if options:
        lines += ["Groups; a command selects one option of each (GROUP=OPTION):", ""]
        for group, names in options.items():
            about_names = f"of {', '.join(names)}" if names else "of your own (--config-dir)"
            lines += _entry(f"{group}={choices[group] or 'null'}", about_names)
        lines.append("")
    lines += ["Settings with their values in this command (KEY=VALUE):", ""]
    comments = _comments(mode, choices)
    for key, value in _leaves(OmegaConf.to_container(config, resolve=False)):
        if key != "mode" and not key.startswith("hydra."):
            lines += _entry(f"{key}={value}", comments.get(key, ""))
    return "\n".join(lines)


def _comments(mode: str, choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the comments in the configuration files of a command, by key."""
    chosen = [CONFIG_DIR / group / f"{option}.yaml" for group, option in choices.items()]
    shared = [path for file in chosen for path in sorted(file.parent.glob("_*.yaml"))]
    comments = {}
    for path in (*shared, *chosen, CONFIG_DIR / f"{mode}.yaml"):
        for setting in file_settings(path) if path.exists() else ():
            if setting.comment:
                comments[package(path) + setting.key] = setting.comment
    return comments


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key with its value on one line, in command-line syntax."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
            plain = value if isinstance(value, str) else text.removesuffix("...\n").strip()
            yield f"{prefix}{key}", plain


def _entry(setting: str, comment: str) -> list[str]:
    """Return the lines of a setting, with its comment in the right column."""
    lines = textwrap.wrap(comment, WIDTH - 36, break_on_hyphens=False)
    if len(setting) > 31 or not lines:
        return [f"  {setting}", *(f"{'':36}{line}" for line in lines)]
    return [f"  {setting:<34}{lines[0]}", *(f"{'':36}{line}" for line in lines[1:])]
