"""Folders of runs: their names, and the newest one of the same configuration."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.errors import UserError
from mprnet_lit.files import write_whole

RECORD = "run.json"
LAST = Path("checkpoints") / "last.ckpt"
OBJECTIVES = "objectives.json"
"""What a trial of Optuna is measured by."""
ERROR = "error.txt"
"""What a job of a sweep failed of."""
NOT_THE_RUN = ("hydra", "paths", "resume", "logger", "sweep")
"""Top-level keys that change nothing in what a run computes."""
HOW_IT_ENDS = ("requeue", "peer_timeout", "auto_batch", "max_bad_steps")
"""Keys of ``trainer`` that don't either, and that are not Lightning's."""


def fingerprint(config: DictConfig) -> str:
    """Return a digest of all in the configuration that decides what a run computes."""
    values: Any = OmegaConf.to_container(config, resolve=False)
    kept = {key: value for key, value in values.items() if key not in NOT_THE_RUN}
    kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in HOW_IT_ENDS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def record(config: DictConfig, folder: Path) -> None:
    """Write into a run's folder what ``resume=auto`` finds it by.

    The order in which runs were begun, or gone on with, is counted: clocks may be set back.
    """
    order = 1 + max((_recorded(path)[1] for path in _records(config)), default=0)
    content = json.dumps({"fingerprint": fingerprint(config), "order": order}) + "\n"
    write_whole(folder / RECORD, content.encode())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder at the same time.

    Raises:
        UserError: one does.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"another process is at work in {folder}: wait until it has ended, or stop it"
        ) from error
    except NotImplementedError:  # this file system has no locks
        pass
    try:
        yield
    finally:
        lock.release()


def find_run(config: DictConfig) -> Path | None:
    """Return the folder of the newest run of this configuration that has a checkpoint."""
    wanted = fingerprint(config)
    found = []
    for path in _records(config):
        last = path.parent / LAST
        kept, order = _recorded(path)
        if kept == wanted and last.is_file():
            found.append((order, last.stat().st_mtime, path.parent))
    return max(found)[2].resolve() if found else None


def _records(config: DictConfig) -> Iterator[Path]:
    yield from Path(config.paths.runs).glob(f"**/{RECORD}")


def _recorded(path: Path) -> tuple[str | None, int]:
    """Return the fingerprint and the order, as far as they are there."""
    from mprnet_lit.tracking.run_files import read_json

    content, _ = read_json(path)
    kept, order = content.get("fingerprint"), content.get("order", 0)
    return kept if isinstance(kept, str) else None, order if type(order) is int else 0


def restarted() -> bool:
    """Tell whether torchrun or SLURM has started this same job again."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name) or 0) > 0 for name in counts)


def run_stamp() -> str:
    """Return the name of a new run's folder, the same in every process of one launch."""
    env = os.environ
    if env.get("SLURM_JOB_ID") and int(env.get("SLURM_NTASKS", 1)) > 1:
        return f"slurm-{env['SLURM_JOB_ID']}"
    started = time.time()
    if run_id := env.get("TORCHELASTIC_RUN_ID"):
        if run_id != "none":
            return f"torchrun-{run_id}"
        # torchrun with no --rdzv-id: its processes on one machine share a parent.
        started = psutil.Process(os.getppid()).create_time()
    milliseconds = int(started % 1 * 1000)  # runs may start in one second
    return time.strftime(f"%Y-%m-%d_%H-%M-%S-{milliseconds:03d}", time.localtime(started))
