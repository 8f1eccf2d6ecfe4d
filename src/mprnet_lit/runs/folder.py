"""Run folders: file names, fingerprint, lock, and the search for a run of a configuration."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.runs.files import CONFIG, flatten, is_within, read_json, read_yaml
from mprnet_lit.runs.settings import NOT_THE_RUN, group, masked, recorded, resolved_apart, tags
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import RefusedError, UserError
from mprnet_lit.utils.format_version import FORMAT, check_format

RECORD = "run.json"
LAST = Path("checkpoints") / "last.ckpt"
SUMMARY = "summary.json"
SWEEP = "sweep.json"
"""File with the trials of an Optuna sweep, in the folder of the sweep."""
OBJECTIVES = "objectives.json"
"""File with the values of the objectives of an Optuna trial."""
ERROR = "error.txt"
"""File with the error message of a run that failed."""
_IGNORED = (
    "callbacks.collapse_warning",
    "callbacks.image_quality",
    "callbacks.log_run",
    "callbacks.out_of_memory",
    "callbacks.peer_check",
    "callbacks.stop_on_signal",
    "callbacks.skip_nonfinite.max_consecutive",
    "module.compile",
)
"""Keys that do not change the result of a training run."""
Upgrade = Callable[[Mapping[str, Any], Container[str]], dict[str, Any]]
"""Function that renames settings of release 0.1, given the keys of this release."""


class Nearest(NamedTuple):
    """Run whose settings differ least from those of a command.

    Attributes:
        folder: directory of the run.
        differ: keys that differ, each with its value in the run and in the command.
    """

    folder: Path
    differ: list[tuple[str, Any, Any]]


def settings(config: DictConfig) -> dict[str, Any]:
    """Return the settings that determine the result of a training run.

    Interpolations are resolved, unless they use an environment variable or an excluded setting. A
    run can therefore be resumed with other folders and on another number of machines.
    """
    kept = resolved_apart(config, NOT_THE_RUN)
    for key in _IGNORED:
        *parents, name = key.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(name, None)
    return kept


def fingerprint(config: DictConfig) -> str:
    """Return a digest of the settings that determine the result of a training run."""
    return _digest(settings(config))


def record(config: DictConfig, folder: Path, checkpoint: Path | None = None) -> None:
    """Write the record by which ``resume=auto`` finds a run, and remove an earlier error message.

    The record numbers the runs in the order of their starts, because clocks may change.

    Args:
        config: configuration of the command.
        folder: directory of the run.
        checkpoint: checkpoint that the run resumes from.
    """
    came_from = None if checkpoint is None else resumed_from(folder)
    if checkpoint is not None and not is_own(checkpoint, folder):
        came_from = str(checkpoint)
    values = settings(config)
    content = {
        "format": FORMAT,
        "fingerprint": _digest(values),
        "order": 1 + max((_order(content) for _, content in _records(config)), default=0),
        "resumed_from": came_from,
        "settings": masked(values, values),
        "group": group(config),
        "tags": tags(config),
    }
    write_atomic(folder / RECORD, (json.dumps(content) + "\n").encode())
    (folder / ERROR).unlink(missing_ok=True)


def resumed_from(folder: Path) -> str | None:
    """Return the checkpoint in another folder that a run resumed from; ``None`` if none."""
    found = _content(folder / RECORD).get("resumed_from")
    return found if isinstance(found, str) else None


def check_version(folder: Path) -> None:
    """Check that this version can read the record of a run.

    Raises:
        UserError: a newer version wrote the record.
    """
    check_format(folder / RECORD, _content(folder / RECORD))


def is_own(checkpoint: Path, folder: Path) -> bool:
    """Return whether a checkpoint is in the checkpoint folder of a run."""
    return checkpoint.parent.resolve() == (folder / LAST).parent.resolve()


def note_failure(folder: Path, sentence: str, replace: bool = True) -> None:
    """Write the error message of a run into its folder, if the folder is writable.

    Args:
        folder: directory of the run.
        sentence: error message.
        replace: whether to replace an existing message, such as that of another process.
    """
    if replace or not (folder / ERROR).exists():
        with suppress(UserError):
            write_atomic(folder / ERROR, f"{sentence}\n".encode())


def refuse_existing(folder: Path, resume: Any) -> None:
    """Check that a command does not overwrite an existing run.

    Raises:
        RefusedError: ``folder`` contains a run, and ``resume`` does not resume it.
    """
    if resume == "auto" or restarted() or _process_number() > 0:
        return
    if resume is not None:
        path = Path(str(resume))
        if is_own(path, folder) or path.resolve() == folder.resolve():
            return
    if any((folder / LAST.parent).glob("*.ckpt")) or (folder / SUMMARY).is_file():
        raise RefusedError(
            f"{folder} contains a run, which this command would overwrite: add resume=auto to "
            "resume it, or choose another folder (hydra.run.dir)"
        )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Create a folder if needed, and lock it against writes by other processes.

    Raises:
        RefusedError: another process holds the lock on ``folder``.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RefusedError(
            f"another process is using {folder}: wait until it has ended, or stop it"
        ) from error
    except NotImplementedError:  # the file system does not support locks
        pass
    try:
        yield
    finally:
        lock.release()


def find_run(config: DictConfig, upgrade: Upgrade) -> Path | None:
    """Return the folder of the newest run of this configuration that has a checkpoint.

    Args:
        config: configuration of the command.
        upgrade: function that renames settings of release 0.1.
    """
    wanted = fingerprint(config)
    found = []
    for folder, content in _records(config):
        last = folder / LAST
        kept = content.get("fingerprint")
        is_old = isinstance(kept, str) and "format" not in content
        if last.is_file() and (
            kept == wanted or (is_old and _is_same_training(config, folder, upgrade))
        ):
            found.append((_order(content), last.stat().st_mtime, folder))
    return max(found)[2].resolve() if found else None


def _is_same_training(config: DictConfig, folder: Path, upgrade: Upgrade) -> bool:
    """Return whether a run of release 0.1 has the settings of a command.

    Settings that exist in only one of the releases are ignored.
    """
    stored, _ = read_yaml(folder, CONFIG)
    if not isinstance(stored, dict) or "task" not in stored or "paths" not in stored:
        return False
    asked = OmegaConf.masked_copy(config.copy(), [str(k) for k in config if k != "hydra"])
    asked.paths.run = stored["paths"]["run"]  # the directory of a new run is not known yet
    here = flatten(recorded(asked))
    there = upgrade(flatten(stored), here)
    return all(
        here[key] == value
        for key, value in there.items()
        if key in here and not is_within(key, (*NOT_THE_RUN, *_IGNORED))
    )


def nearest(config: DictConfig) -> Nearest | None:
    """Return the newest run whose settings differ least from those of the command."""
    values = settings(config)
    asked = flatten(masked(values, values))
    written = flatten(OmegaConf.to_container(config, resolve=False))
    references = [key for key, value in written.items() if str(value).startswith("${")]
    found: list[tuple[int, int, Nearest]] = []
    for folder, content in _records(config):
        there = content.get("settings")
        if not isinstance(there, dict) or content.get("format") != FORMAT:
            continue
        trained = {k: v for k, v in flatten(there).items() if not is_within(k, _IGNORED)}
        keys = sorted(asked.keys() | trained.keys())
        differ = [(k, trained.get(k), asked.get(k)) for k in keys if trained.get(k) != asked.get(k)]
        # Report the key that differs, not the interpolations that refer to it.
        named = [d for d in differ if not is_within(d[0], references)]
        found.append((len(differ), -_order(content), Nearest(folder, named or differ)))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _records(config: DictConfig) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder and the record of each run; the record of a damaged file is empty."""
    for path in Path(config.paths.runs).glob(f"**/{RECORD}"):
        yield path.parent, _content(path)


def _order(content: dict[str, Any]) -> int:
    """Return the position of a run in the order of starts; 0 if it is missing."""
    order = content.get("order", 0)
    return order if type(order) is int else 0


def _content(path: Path) -> dict[str, Any]:
    """Return the content of the record of a run; empty for a damaged file."""
    return read_json(path)[0]


def _process_number() -> int:
    """Return the rank of this process as set by torchrun or SLURM."""
    env = os.environ
    several = int(env.get("SLURM_NTASKS") or 1) > 1
    return int(env.get("RANK") or (env.get("SLURM_PROCID") if several else None) or 0)


def restarted() -> bool:
    """Return whether torchrun or SLURM has restarted this job."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name) or 0) > 0 for name in counts)


def run_stamp() -> str:
    """Return the name of the folder of a new run, the same in all processes of the run."""
    env = os.environ
    if env.get("SLURM_JOB_ID") and int(env.get("SLURM_NTASKS", 1)) > 1:
        return f"slurm-{env['SLURM_JOB_ID']}"
    started = time.time()
    if run_id := env.get("TORCHELASTIC_RUN_ID"):
        if run_id != "none":
            return f"torchrun-{run_id}"
        # Without --rdzv-id, all processes of torchrun on a machine have the same parent.
        started = psutil.Process(os.getppid()).create_time()
    milliseconds = int(started % 1 * 1000)  # two runs may start in the same second
    return time.strftime(f"%Y-%m-%d_%H-%M-%S-{milliseconds:03d}", time.localtime(started))
