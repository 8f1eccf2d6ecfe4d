"""Shared fixtures: golden data, real photographs, the command line as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
PHOTOS = Path(skimage.__file__).parent / "data"


@dataclass(frozen=True)
class Golden:
    """Measured on the reference implementation: see tests/data/README.md."""

    arrays: dict[str, NDArray]

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def group(self, prefix: str) -> dict[str, NDArray]:
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(a) for name, a in self.group("weight/").items()}


@pytest.fixture(scope="session")
def golden() -> Golden:
    with np.load(DATA / "parity_small.npz") as file:
        return Golden(dict(file))


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, dict]:
    return {
        size: json.loads((DATA / f"official_state_dict_{size}.json").read_text())
        for size in ("small", "base", "large")
    }


@dataclass(frozen=True)
class Outcome:
    """What a command printed and left behind."""

    status: int
    output: str
    errors: str
    folder: Path

    def file(self, pattern: str) -> Path:
        """The one file of the command's run folders that matches."""
        found = sorted(self.folder.glob(f"runs/**/{pattern}"))
        assert len(found) == 1, f"{pattern}: {found}\n{self.output}\n{self.errors}"
        return found[0]

    def json(self, pattern: str) -> dict:
        return json.loads(self.file(pattern).read_text())


# The least that trains for real: small patches of the embedded photographs.
QUICK = (
    "model=tiny",
    "trainer.accelerator=cpu",
    "data.patch_size=32",
    "data.batch_size=2",
    "data.crops_per_image=2",
    "data.val_crop_size=64",
)

Cli = Callable[..., Outcome]


def run_cli(folder: Path, *arguments: str, quick: bool = True, **popen: object) -> Outcome:
    """Run ``python -m mprnet_lit`` in ``folder`` as a user would."""
    command = [sys.executable, "-m", "mprnet_lit", *(QUICK if quick else ()), *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, **popen
    )
    return Outcome(done.returncode, done.stdout, done.stderr, folder)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run the command line in a new folder; fails the test unless the exit status is as told."""

    def run(*arguments: str, status: int = 0, **options: object) -> Outcome:
        outcome = run_cli(tmp_path, *arguments, **options)
        assert outcome.status == status, f"{outcome.output}\n{outcome.errors}"
        return outcome

    return run
