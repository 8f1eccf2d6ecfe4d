"""The notebooks run from their first cell to their last."""

import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.models import MPRNet
from mprnet_lit.weights import Info

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def execute(name, folder, monkeypatch):
    """Run a notebook in a folder, with this Python; returns what it printed."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    manager = AsyncKernelManager()
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        language="python",
    )
    client = NotebookClient(
        notebook, km=manager, timeout=240, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=dict(os.environ))
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


def test_restoring_a_photo(tmp_path, monkeypatch):
    model = MPRNet.from_size("tiny")
    model.start_from_identity()  # gives its input back, so that what must come out is known
    weights.save(model, tmp_path / "w.safetensors", Info("denoise", 64))
    monkeypatch.setenv("MPRNET_LIT_WEIGHTS", str(tmp_path / "w.safetensors"))
    printed = execute("restore_a_photo.ipynb", tmp_path, monkeypatch)
    assert printed.count("20.23 dB") == 8, "noisy, restored, three options, three stages"
    noisy, restored = (np.array(Image.open(tmp_path / f"{n}.png")) for n in ("noisy", "restored"))
    assert noisy.shape == (300, 451, 3) and np.array_equal(noisy, restored)


def test_training_on_own_images(tmp_path, monkeypatch):
    monkeypatch.setenv("MPRNET_LIT_QUICK", "1")
    printed = execute("train_on_your_own_images.ipynb", tmp_path, monkeypatch)
    assert "stage3" in printed and "dB" in printed
    assert weights.read(tmp_path / "mine.safetensors").info.task == "denoise"
    assert Image.open(tmp_path / "restored" / "coffee.png").size == (256, 256)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_no_outputs_are_kept(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
