"""Translation of the short form of a command into Hydra's flags and overrides.

``mprnet_lit restore a.jpg b.jpg output=sharp -m`` becomes
``-m mode=restore output=sharp 'input=["a.jpg","b.jpg"]'``. The translation of a translated command
is the same command, so that Lightning can launch worker processes with it.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mprnet_lit.config.groups import groups, modes, valid_keys
from mprnet_lit.config.messages import quoted
from mprnet_lit.config.overrides import exists, expanded, quote_files, sweeps
from mprnet_lit.config.renamed import new_name
from mprnet_lit.utils.errors import UserError

# Hydra's flags: without a value, with a value, with an optional value.
PLAIN_FLAGS = ("-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run",
               "-m", "--multirun", "-sc", "--shell-completion")  # fmt: skip
VALUE_FLAGS = ("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name",
               "-cd", "--config-dir", "--experimental-rerun")  # fmt: skip
INFO_FLAGS = ("-i", "--info")
INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")

_POSITIONS = {
    "evaluate": ("input", "evaluate.target"),
    "report": ("input",),
    "convert": ("weights", "output"),
    "export": ("weights", "output"),
}
"""Keys of arguments without ``=``, by mode. In ``mode=restore``, all such arguments are inputs."""
_ALIASES = {"benchmark": "profile"}
"""New name of each renamed mode of release 0.1."""
_WEIGHTS = (".pth", ".ckpt", ".safetensors", ".onnx")
_KEY = re.compile(r"(~|\+{0,2})[\w$@:./-]+")
_MODE = re.compile(r"^\+{0,2}mode=")
_DELETION = re.compile(r"~[\w@:.-][\w@:./-]*")


@dataclass
class _Command:
    """Flags, overrides, and words (all other arguments) of a command."""

    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def value(self, key: str) -> str | None:
        """Return the last value of a key in the overrides; ``None`` if it is not set."""
        values = [o.partition("=")[2] for o in self.overrides if o.partition("=")[0] == key]
        return values[-1] if values else None

    def set(self, key: str, value: str, word: str) -> None:
        """Add the override that a word stands for; reject a second value of the key."""
        typed = self.value(key)
        if typed is None:
            self.overrides.append(f"{key}={value}")
        elif typed != value:
            hint = " (a name with spaces needs quotes)" if key == "input" else ""
            raise UserError(f"'{word}' and '{key}={typed}' both set {key}: type one of them{hint}")


def translate(arguments: Sequence[str]) -> list[str]:
    """Return the arguments in Hydra's form: flags, then overrides."""
    if any(argument in ("-sc", "--shell-completion") for argument in arguments):
        return list(arguments)
    command = _split(arguments)
    words = command.words
    if words[:1] == ["help"] and not exists("help"):
        command.flags.append("--help")
        del words[0]
    if words and words[0] in (*modes(), *_ALIASES):
        command.set("mode", words[0], words.pop(0))
    for old, new in _ALIASES.items():
        command.overrides = [f"mode={new}" if o == f"mode={old}" else o for o in command.overrides]
    tasks = [word for word in words[:2] if word in groups()["task"] and not _is_path(word)]
    task = tasks[0] if tasks and words[0] not in valid_keys() else None
    if task is not None:
        words.remove(task)
        command.set("task", task, task)
    if words and command.value("mode") is None and _is_path(words[0]):
        command.overrides.append("mode=restore")
    mode = command.value("mode")
    asks_for_help = not {"-h", "--help"}.isdisjoint(command.flags)
    if task is not None and mode is None and not words and not asks_for_help:
        raise UserError(
            f"'{task}' is a task: type 'mprnet_lit {task} PHOTO' to restore a photo, or "
            f"'mprnet_lit train task={task}' to train"
        )
    if words:
        _place(command, mode or "train")
    sweep = sweeps(command.flags, command.overrides)
    return [*command.flags, *(quote_files(o, sweep=sweep) for o in command.overrides)]


def chosen_mode(arguments: Sequence[str]) -> str:
    """Return the mode of a translated command; its primary configuration has the same name."""
    completes = any(argument in ("-sc", "--shell-completion") for argument in arguments)
    words = os.environ.get("COMP_LINE", "").split() if completes else arguments
    chosen = [value for word in words if (value := _MODE.sub("", word)) != word]
    mode = chosen[-1].strip("'\"") if chosen else "train"
    if mode in modes():
        return mode
    if completes:  # the mode is not typed completely
        return "train"
    if mode in groups()["task"]:
        raise UserError(f"'{mode}' is a task: did you mean 'mode=restore task={mode}'?")
    near = difflib.get_close_matches(mode, modes(), 1, 0.6)
    meant = f": did you mean '{near[0]}'?" if near else ""
    raise UserError(f"'{mode}' is not a mode{meant} (modes: {', '.join(modes())})")


def _split(arguments: Sequence[str]) -> _Command:
    """Sort the arguments into flags with their values, overrides and words."""
    command = _Command()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument == "--":
            command.words += rest
            break
        if name in PLAIN_FLAGS and not equals:
            command.flags.append(argument)
        elif name in INFO_FLAGS:
            given = value or (rest.pop(0) if rest and rest[0] in INFOS else "all")
            command.flags.append(f"--info={given}")
        elif name in VALUE_FLAGS:
            if not equals and not rest:
                raise UserError(f"{name} needs a value: see 'mprnet_lit --help'")
            command.flags += [argument] if equals else [argument, rest.pop(0)]
        elif argument.startswith("-") and not exists(argument):
            raise UserError(_unknown_flag(name, value or (rest[0] if rest else "VALUE")))
        elif _is_override(argument):
            following = rest[0] if rest else ""
            if argument.endswith("=") and following and not _is_override(following):
                raise UserError(
                    f"there is a space after '{argument}': type '{argument}{following}'"
                )
            command.overrides.append(argument)
        else:
            command.words.append(argument)
    return command


def _is_override(word: str) -> bool:
    """Return whether a word is an override; a file name may contain an equals sign too."""
    key, equals, _ = word.partition("=")
    if not (_KEY.fullmatch(key) if equals else _DELETION.fullmatch(word)):
        return False
    return not exists(word) or key.lstrip("~+") in valid_keys()


def _is_path(word: str) -> bool:
    """Return whether a word is a path, existing or not, or a glob."""
    signs = ("/", "\\", "*", "?", "[")
    return exists(expanded(word)) or any(s in word for s in signs) or bool(Path(word).suffix)


def _place(command: _Command, mode: str) -> None:
    """Add the overrides that the words stand for in a mode."""
    words, keys = command.words, _POSITIONS.get(mode, ())
    for number, word in enumerate(words):
        if not _is_path(word) or (mode != "restore" and not keys):
            raise UserError(_unknown_word(word, words[number + 1 :], mode))
    paths = [expanded(word) for word in words]
    values = [quoted(path) for path in paths]
    if mode == "restore":
        for path in paths:
            if path.endswith(_WEIGHTS):
                raise UserError(
                    f"'{path}' is a weights file, not a photo: type 'weights={path}' to use it"
                )
        value = values[0] if len(values) == 1 else f"[{','.join(values)}]"
        command.set("input", value, words[0])
    elif len(values) != len(keys):
        names = [key.rpartition(".")[2].upper() for key in keys]
        settings = " ".join(f"{key}={name}" for key, name in zip(keys, names, strict=True))
        raise UserError(f"type 'mprnet_lit {mode} {' '.join(names)}', or '{settings}'")
    else:
        for key, value, word in zip(keys, values, words, strict=True):
            command.set(key, value, word)


def _unknown_flag(flag: str, value: str) -> str:
    """Return the error message for an unknown flag, with a suggestion."""
    key = flag.lstrip("-").replace("-", "_")
    if key in modes():
        return f"there is no option {flag}: type 'mprnet_lit {key}'"
    key = new_name(key, "train") or key
    if key in valid_keys():
        return f"settings have no dashes: type '{key}={value}' instead of {flag}"
    flags = [*PLAIN_FLAGS, *VALUE_FLAGS, *INFO_FLAGS]
    near = difflib.get_close_matches(flag, [f for f in flags if f.startswith("--")], 1, 0.7)
    near = near or [f"{k}=" for k in difflib.get_close_matches(key, valid_keys(), 1, 0.7)]
    meant = f"did you mean '{near[0]}'?" if near else "see 'mprnet_lit --help'"
    return f"there is no option {flag}: {meant}"


def _unknown_word(word: str, following: Sequence[str], mode: str) -> str:
    """Return the error message for an unknown word, with a suggestion."""
    value = next((text.lstrip("=") for text in following if text != "="), "VALUE")
    if word.startswith("="):
        return f"a setting has no spaces around '=': type 'KEY{word}'"
    if (key := new_name(word, mode) or word) in valid_keys():
        return f"'{word}' is a setting: type '{key}={value}'"
    options = [f"{group}={word}" for group, names in groups().items() if word in names]
    if options:
        return f"'{word}' is an option: type {' or '.join(repr(o) for o in options)}"
    if _is_path(word):
        command = f"mprnet_lit {mode} --help"
        return f"mode={mode} needs a key for the file: type KEY={word} (see '{command}')"
    known = [*modes(), *groups()["task"], *valid_keys()]
    near = difflib.get_close_matches(word, known, 1, 0.7)
    if near:
        return f"'{word}' is unknown: did you mean '{near[0]}'?"
    return f"'{word}' is neither a mode, a file nor KEY=VALUE: see 'mprnet_lit --help'"
