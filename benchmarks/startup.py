"""Measure the wall-clock time of commands."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.interleave import Figures, time_jobs
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.models import MPRNet


def measure(rounds: int = 5) -> dict[str, Figures]:
    """Time the commands in interleaved rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights.save(MPRNet.from_size("tiny"), folder / "w.safetensors")
        Image.new("RGB", (64, 64)).save(folder / "photo.png")
        restore = ("mode=restore", "weights=w.safetensors", "input=photo.png", "overwrite=true")
        commands = {
            'python -c "import torch" (reference)': ["-c", "import torch"],
            "--help": ["-m", "mprnet_lit", "--help"],
            "a mistyped key": ["-m", "mprnet_lit", "taks=deblur"],
            "mode=restore, one 64x64 photo": ["-m", "mprnet_lit", *restore],
        }
        run = partial(subprocess.run, cwd=folder, capture_output=True)
        jobs = {name: partial(run, [sys.executable, *rest]) for name, rest in commands.items()}
        return time_jobs(jobs, rounds)
