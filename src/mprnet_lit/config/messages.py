"""Error messages about overrides, keys and the composition of a configuration."""

import difflib
import re
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigTypeError, ValidationError

from mprnet_lit.config.groups import CONFIG_DIR, groups, mode_keys, owners, valid_keys
from mprnet_lit.config.renamed import REMOVED, explain_renamed
from mprnet_lit.config.schema import KEYS
from mprnet_lit.config.values import shown
from mprnet_lit.runs.files import is_within
from mprnet_lit.utils.errors import UserError, install_hint

_EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/ray": "ray",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/submitit_slurm": "slurm",
}
"""Extra that an option requires, by option."""


def quoted(value: str) -> str:
    """Quote a text so that Hydra and OmegaConf parse it to the original text."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # not an interpolation
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', literal)
    last = escaped[len(escaped.rstrip("\\")) :]  # Hydra unescapes backslashes before a quote
    return f'"{escaped}{last}"'


def check_choices(arguments: Sequence[str]) -> None:
    """Raise UserError if the value of a group (``task=deblur``) can't be the name of an option.

    Hydra's own error message is unclear.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue  # a flag, or a syntax error, which Hydra reports later
        group, choice = override.key_or_group, override.value()
        if not ("/" in group or (CONFIG_DIR / group).is_dir()):
            continue
        if override.is_sweep_override() or (override.is_delete() and "=" not in argument):
            continue
        names = choice if isinstance(choice, list) else [choice]
        if not all(isinstance(name, str | dict | QuotedString) for name in names):
            options = ", ".join(groups().get(group, ["see --help"]))
            raise UserError(f"{argument}: {group} takes the name of one of its options ({options})")


def explain(error: Exception, mode: str = "train") -> str | None:
    """Return a message for an error of Hydra or OmegaConf in a mode; ``None`` for other errors."""
    text = str(error)
    if isinstance(error, RecursionError):
        return "the command's settings are nested too deeply: use fewer brackets"
    if isinstance(error, ValueError) and "integer string conversion" in text:
        return "a number in the command has thousands of digits: use a smaller one"
    if isinstance(error, ValueError) and "No config source registered for schema" in text:
        return f"hydra.searchpath must list folders, or URLs with pkg:// or file://: {text}"
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        return (
            f"can't read '{error.override}': a value with special characters, such as spaces "
            f"and brackets, needs double quotes inside single quotes: '{key}={quoted(value)}'"
        )
    if found := re.search(r"Ambiguous value for argument '(.+?)=(.*)'\n", text):
        return (
            f"'{found[1]}={found[2]}' has several values: add -m to run the command with each of "
            f"them, or type '{found[1]}=[{found[2]}]' for a list"
        )
    if found := re.search(r"Could not override '(.+?)'|Key '(.+?)' is not in struct", text):
        typed = re.search(r"use \+(\S+?)=(.*)$", text, re.MULTILINE)
        return _no_such_key(found[1] or found[2], typed[2] if typed else "VALUE", mode)
    if found := re.search(r"Could not find '(.+?)'", text):
        return _no_such_option(found[1], re.findall(r"^\t(\S+)$", text, re.MULTILINE))
    if "Error resolving interpolation '${mprnet.machine" in text:
        return "task and trainer each take the name of one option, not a list"
    if "Interpolation key 'sweep." in text:
        return "hydra/sweeper=optuna lacks the settings of the sweep: use sweep=optuna instead"
    if found := re.search(r"raised while resolving interpolation: (.+)", text):
        return found[1]
    if isinstance(error, InstantiationException):
        return f"{failed_key(error) or 'the configuration'}: {error.__cause__ or text}"
    for wrong in (error, error.__cause__, error.__context__):  # Hydra sets no cause for a file
        if isinstance(wrong, ValidationError | ConfigTypeError):
            return _wrong_type(wrong, text)
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found[1]} is not set: add {found[1]}=VALUE to the command"
    return None


def _wrong_type(error: ValidationError | ConfigTypeError, text: str) -> str:
    """Return the error message for a value of the wrong type; Hydra's ``text`` names the file."""
    key = str(error.full_key)
    if known := KEYS.get(key.partition("[")[0]):
        file = re.match("In '(.+?)'", text)
        origin = f" (conf/{file[1]}.yaml)" if file else ""
        value = "" if isinstance(error, ConfigTypeError) else f"={shown(error.value)}"
        return f"{key}{value} must be {known.words}{origin}"
    return f"{text.removeprefix('Error merging override ')}: {error}".splitlines()[0]


def _no_such_option(name: str, options: Sequence[str]) -> str:
    """Return the error message for a missing option, or without ``options`` a missing group."""
    group, _, option = name.rpartition("/")
    if name in _EXTRAS:
        hint = install_hint(_EXTRAS[name])
        return f"'{option}' needs a package that is not installed: {hint}"
    if not options:
        group = group or option
        return f"there is no configuration group '{group}'{_did_you_mean(group, valid_keys())}"
    if group == "recipe":
        return (
            f"there is no recipe '{option}': choose one with recipe=NAME "
            f"({', '.join(options)}), or add recipe/{option}.yaml to the configuration"
        )
    return (
        f"'{option}' is not an option of {group}{_did_you_mean(option, options)} "
        f"(options: {', '.join(o for o in options if not o.startswith('_'))})"
    )


def _no_such_key(key: str, value: str, mode: str) -> str:
    if key == "mode":
        return "a configuration file can't choose the mode: add mode=NAME to the command"
    if renamed := explain_renamed(key, value, mode):
        return renamed
    options = [f"{group}={'|'.join(names)}" for group, names in owners(key, mode).items()]
    if options:
        return f"the key '{key}' exists only with {' or '.join(options)}: add one of them"
    for removed, instead in REMOVED.items():
        if is_within(key, [removed]):
            return f"the key '{key}' was removed: {instead}"
    near = _did_you_mean(key, mode_keys(mode) - {key}) or _did_you_mean(key, valid_keys() - {key})
    return f"there is no key '{key}' in the configuration of mode={mode}{near}"


def failed_key(error: InstantiationException) -> str:
    """Return the key of the node that Hydra could not instantiate; empty if unknown."""
    found = re.search(r"full_key: (\S+)", str(error))
    return found[1] if found else ""


def with_keys(message: str, config: DictConfig) -> str:
    """Replace parameter names in a message with keys: ``tile=96`` with ``inference.tile=96``."""
    for node in ("data", "inference", "evaluate"):  # whose keys are parameters of a class
        settings = config.get(node)
        names = [str(n) for n in settings if n not in config] if OmegaConf.is_dict(settings) else []
        if names:
            pattern = rf"(?<![\w./])(?:{node}: )?({'|'.join(names)})=('?)(\w*)\2"
            message = re.sub(pattern, rf"{node}.\1=\3", message)
    return message


def _did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else ""
