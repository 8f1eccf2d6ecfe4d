"""Execution of all cells of the notebooks."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.models import MPRNet
from mprnet_lit.weights import Info

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def execute(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, upto: Any = None
) -> tuple[Any, Any]:
    """Run a notebook in a folder outside the checkout, up to the first cell that contains ``upto``.

    Returns the text output and the number of images.
    """
    assert not list(folder.rglob("*.ckpt")), "the folder has no training yet"
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    if upto is not None:
        last = next(k for k, cell in enumerate(notebook.cells) if upto in cell.source)
        notebook.cells = notebook.cells[: last + 1]
    manager = AsyncKernelManager()
    manager._kernel_spec = KernelSpec(  # a kernel of this environment, not an installed one
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        language="python",
    )
    client = NotebookClient(
        notebook, km=manager, timeout=240, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=dict(os.environ))
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    shown = [output.get("data", {}) for output in outputs]
    text = [o.get("text", "") for o in outputs] + [d.get("text/markdown", "") for d in shown]
    return "".join(text), sum("image/png" in data for data in shown)


def test_notebook_restores_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MPRNet.from_size("tiny")
    model.start_from_identity()  # returns its input, so that the result is known
    weights.save(model, tmp_path / "w.safetensors", Info("denoise", 64))
    monkeypatch.setenv("MPRNET_LIT_WEIGHTS", str(tmp_path / "w.safetensors"))
    text, images = execute("restore_a_photo.ipynb", tmp_path, monkeypatch)
    assert text.count("20.23 dB") == 8, "before, after, three options, three stages"
    assert images == 2, "before and after, the stages"
    noisy, restored = (np.array(Image.open(tmp_path / f"{n}.png")) for n in ("noisy", "restored"))
    assert noisy.shape == (300, 451, 3) and np.array_equal(noisy, restored)


def test_notebook_restores_a_photo_without_optional_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPRNET_LIT_WEIGHTS", raising=False)
    text, images = execute("restore_a_photo.ipynb", tmp_path, monkeypatch, upto="Restorer(")
    before, after = map(float, re.findall(r"([\d.]+) dB", text))
    assert before == 20.23 and after > 28 and images == 1


def test_notebook_trains_on_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPRNET_LIT_QUICK", "1")
    (tmp_path / "restored.png").write_bytes(b"of an earlier run")
    (tmp_path / "mine.safetensors").write_bytes(b"of an earlier run")
    text, images = execute("train_on_your_own_images.ipynb", tmp_path, monkeypatch)
    assert all(f"| {name} |" in text for name in ("degraded", "stage1", "stage2", "stage3"))
    assert images == 2, "the panel, before and after"
    (best,) = tmp_path.glob("my_runs/*/checkpoints/best.ckpt")
    trained = weights.read(best)
    converted = weights.read(tmp_path / "mine.safetensors")
    assert trained.info.task == converted.info.task == "denoise"
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(tensor, converted.model.state_dict()[name]), name
    assert Image.open(tmp_path / "restored.png").size == (256, 256)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_contain_no_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert cells
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
