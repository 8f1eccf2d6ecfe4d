"""Measure the wall-clock time of commands."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.interleave import Figures
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
        figures = {what: Figures() for what in commands}
        for number in range(rounds + 1):
            for what, arguments in commands.items():
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True)
                if number:
                    figures[what].seconds.append(time.perf_counter() - started)
        return figures
