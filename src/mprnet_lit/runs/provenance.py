"""Provenance of a run: resolved configuration, versions, code revision, machine."""

import json
import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from omegaconf import DictConfig, OmegaConf

from mprnet_lit.runs.files import CONFIG, ENVIRONMENT
from mprnet_lit.runs.revision import git_revision, source_digest
from mprnet_lit.runs.settings import recorded
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.masking import mask_text

_PACKAGES = (
    "mprnet_lit",
    "torch",
    "lightning",
    "hydra-core",
    "omegaconf",
    "torchmetrics",
    "albumentations",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-image",
)


def save_provenance(config: DictConfig, folder: Path) -> None:
    """Write ``config.yaml`` and ``environment.json`` into the folder of a run.

    Credentials are masked. Interpolations of environment variables are not resolved.
    """
    values = OmegaConf.create(recorded(config))
    write_atomic(folder / CONFIG, OmegaConf.to_yaml(values).encode())
    write_atomic(folder / ENVIRONMENT, (json.dumps(environment(), indent=2) + "\n").encode())


def environment() -> dict[str, Any]:
    """Return command, code revision, package versions and machine."""
    return {
        "command": shlex.join(mask_text(argument) for argument in sys.orig_argv),
        "code": {"revision": git_revision(), "source": source_digest()},
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.platform(),
            "cpu_cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
