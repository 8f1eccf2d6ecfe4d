"""The configuration: where it lies, its resolvers, what it may instantiate, what a typo meant."""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import ValidationError

from mprnet_lit.config.groups import CONFIG_DIR, groups, mode_keys, owners, valid_keys
from mprnet_lit.config.renamed import explain_renamed, upgraded
from mprnet_lit.runs.folder import find_run, refuse_existing, run_stamp
from mprnet_lit.utils.compat import full_key
from mprnet_lit.utils.errors import UserError, install_hint

__all__ = ["CONFIG_DIR", "check_choices", "explain", "instantiate", "quoted", "register_resolvers"]

ALLOWED = ("mprnet_lit.", "torch.", "lightning.", "torchmetrics.", "albumentations.")
"""Where the classes that a configuration may instantiate live."""

ALLOW_VARIABLE = "MPRNET_LIT_ALLOW"
"""The environment variable that names packages of one's own besides: ``low_light,other.package``.

Not a setting of the configuration, which must not be able to allow itself more.
"""


_EXTRAS = {
    "hydra/launcher": {
        "joblib": "joblib",
        "ray": "ray",
        "submitit_local": "slurm",
        "submitit_slurm": "slurm",
    }
}
"""The extra of this package that an option comes with, by group."""


def register_resolvers() -> None:
    """Register the resolvers that the configuration uses."""
    OmegaConf.register_new_resolver("mprnet.by_machine", by_machine, replace=True)
    OmegaConf.register_new_resolver("mprnet.fast_precision", _fast_precision, replace=True)
    OmegaConf.register_new_resolver("mprnet.size", _size, replace=True)
    OmegaConf.register_new_resolver("mprnet.required", _required, replace=True)
    OmegaConf.register_new_resolver("mprnet.run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("mprnet.new_run", _new_run, replace=True)
    OmegaConf.register_new_resolver("mprnet.stamp", run_stamp, replace=True, use_cache=True)


def by_machine(with_gpu: Any, without: Any, *, _root_: DictConfig) -> Any:
    """Return the first value where training has an accelerator, else the second."""
    from mprnet_lit.utils.hardware import training_device

    accelerator = OmegaConf.select(_root_, "trainer.accelerator", default="auto")
    return without if training_device(accelerator).type == "cpu" else with_gpu


def _fast_precision(*, _root_: DictConfig) -> str:
    """Return the precision in which the training's device is fast."""
    from mprnet_lit.utils.hardware import fast_precision, training_device

    return fast_precision(training_device(_root_.trainer.accelerator))[0]


def _size(name: str, hyperparameter: str) -> int:
    from mprnet_lit.models import SIZES

    if name not in SIZES:
        raise UserError(f"model.size={name} must be one of {', '.join(SIZES)}")
    return int(getattr(SIZES[name], hyperparameter))


def _required(*, _node_: Node) -> NoReturn:
    """Stand for a value that must be set where a default was set before.

    ``???`` does not do that: merged over a value, it leaves the value in force.
    """
    key = full_key(_node_)
    raise UserError(f"{key} is not set: add {key}=VALUE to the command")


def _run_dir(new: str, *, _root_: DictConfig) -> str:
    """Return the folder of this run: the one that ``resume=auto`` continues, or ``new``."""
    found = find_run(_root_, upgraded) if _root_.resume == "auto" else None
    return str(new if found is None else found)


def _new_run(subfolder: str, *, _root_: DictConfig) -> str:
    """Return Hydra's folder within a run's, unless it would overwrite that of another run.

    Hydra asks for it before it writes anything else into the run's folder.
    """
    refuse_existing(Path(_root_.hydra.runtime.output_dir), _root_.get("resume"))
    return subfolder


def instantiate(config: DictConfig, **kwargs: Any) -> Any:
    """Build the object that ``_target_`` names, and those inside it.

    Raises:
        UserError: a target is not one of the classes that may be instantiated, or a class refuses
            its settings.
    """
    targets = {
        full_key(config, key): target
        for key, target in _targets(OmegaConf.to_container(config, resolve=True))
    }
    for key, target in targets.items():
        _check_target(key, target)
    try:
        return hydra.utils.instantiate(config, _convert_="all", **kwargs)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise UserError(_with_key(str(error.__cause__), _full_key(error), targets)) from error
        raise


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    children: Any = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for key, child in children:
        if key == "_target_":
            yield f"{path}{key}", str(child)
        yield from _targets(child, f"{path}{key}.")


def _allowed() -> tuple[str, ...]:
    own = os.environ.get(ALLOW_VARIABLE, "").replace(",", " ").split()
    return (*ALLOWED, *(f"{package}." for package in own))


def _check_target(key: str, target: str) -> None:
    allowed = _allowed()
    refusal = (
        f"{key}={target} can't be instantiated: only classes of "
        f"{', '.join(a.rstrip('.') for a in allowed)} may be; "
        f"{ALLOW_VARIABLE}=PACKAGE in the environment adds a package of yours"
    )
    if not target.startswith(allowed):
        raise UserError(refusal)
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:
        raise UserError(f"{key}={target} does not exist: {error}".splitlines()[0]) from error
    # Defined there, too: a module's own imports (torch.os.system) must not be a way out.
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(allowed):
        raise UserError(refusal)


def quoted(value: str) -> str:
    """Return a text as Hydra and OmegaConf read it back, whatever is in it."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # no interpolation
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', literal)
    last = escaped[len(escaped.rstrip("\\")) :]  # backslashes, which Hydra reads in pairs there
    return f'"{escaped}{last}"'


def check_choices(arguments: Sequence[str]) -> None:
    """Check that what chooses an option of a group, such as ``task=deblur``, is a name, or several.

    Raises:
        UserError: it is a number or the like, for which Hydra has no sentence.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue  # a flag, or what Hydra itself says it can't read
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
    """Return a sentence that explains an error of the configuration; ``None`` for other errors.

    Args:
        error: exception of Hydra or OmegaConf.
        mode: mode of the command.
    """
    text = str(error)
    if isinstance(error, RecursionError):
        return "the command's settings are nested too deeply: use fewer brackets"
    if isinstance(error, ValueError) and "integer string conversion" in text:
        return "a number in the command has thousands of digits: use a smaller one"
    if isinstance(error, ValueError) and "No config source registered for schema" in text:
        return f"hydra.searchpath takes folders, or addresses of pkg:// and file://: {text}"
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        return (
            f"can't read '{error.override}': a value with spaces, brackets, commas or the like "
            f"needs double quotes inside the shell's single ones: '{key}={quoted(value)}'"
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
        group, _, option = found[1].rpartition("/")
        if group in _EXTRAS and option in _EXTRAS[group]:
            return f"'{option}' needs a package that is not installed: " + install_hint(
                _EXTRAS[group][option]
            )
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        if not options:
            return f"there is no configuration group '{group or option}'" + _did_you_mean(
                group or option, valid_keys()
            )
        return (
            f"'{option}' is not an option of {group}{_did_you_mean(option, options)} "
            f"(options: {', '.join(o for o in options if not o.startswith('_'))})"
        )
    if "Interpolation key 'sweep." in text:
        return "hydra/sweeper=optuna needs the settings of sweep=optuna: use that"
    if found := re.search(r"raised while resolving interpolation: (.+)", text):
        return found[1]
    if isinstance(error, InstantiationException):
        return f"{_full_key(error) or 'the configuration'}: {error.__cause__ or text}"
    if isinstance(error.__cause__, ValidationError):  # a type of Hydra's own settings
        return f"{text.removeprefix('Error merging override ')}: {error.__cause__}".splitlines()[0]
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found[1]} is not set: add {found[1]}=VALUE to the command"
    return None


def _no_such_key(key: str, value: str, mode: str) -> str:
    if renamed := explain_renamed(key, value, mode):
        return renamed
    options = [f"{group}={'|'.join(names)}" for group, names in owners(key, mode).items()]
    if options:
        return f"the key '{key}' exists only with {' or '.join(options)}: add one of them"
    near = _did_you_mean(key, mode_keys(mode) - {key}) or _did_you_mean(key, valid_keys() - {key})
    return f"there is no key '{key}' in the configuration of mode={mode}{near}"


def _full_key(error: InstantiationException) -> str:
    found = re.search(r"full_key: (\S+)", str(error))
    return found[1] if found else ""


def _with_key(sentence: str, key: str, keys: Iterable[str]) -> str:
    """Return the sentence of a class with the key of its settings, unless it names them itself.

    Hydra writes the key without the dots before places in a list: ``choices0``.
    """
    for target in keys:
        node = target.removesuffix("._target_")
        if node.replace(".", "") == key.replace(".", ""):
            return sentence if f"{node}." in sentence else f"{node}: {sentence}"
    return sentence


def _did_you_mean(wrong: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
    return f": did you mean '{near[0]}'?" if near else ""
