"""A training step does not wait for its device, except to log."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from torch.utils.data import DataLoader

from mprnet_lit.models import MPRNet, functional
from mprnet_lit.training.callbacks import EMA, Monitor, Progress, SkipNonFinite, StopOnSignal
from mprnet_lit.training.losses import MultiStageLoss
from mprnet_lit.training.module import RestorationModule
from mprnet_lit.utils.transfer import HostCopy

WAITS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__format__")
"""Methods of a tensor that wait for a GPU."""


class Watch(Callback):
    """Records the calls of ``WAITS`` by step, and the steps in which flags are copied and read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[list[str]] = []
        self.copied: list[int] = []
        self.read: list[int] = []
        self.active = False
        for name in WAITS:
            method = getattr(torch.Tensor, name)
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, method))
        monkeypatch.setattr(HostCopy, "tolist", lambda copy: self._flags(copy))
        start = HostCopy.__init__

        def copy(host_copy: Any, tensor: torch.Tensor) -> None:
            self.copied.append(len(self.steps))
            start(host_copy, tensor)

        monkeypatch.setattr(HostCopy, "__init__", copy)

    def on_train_batch_start(self, *_: Any) -> None:
        self.active = True
        self.steps.append([])

    def on_train_end(self, *_: Any) -> None:
        self.active = False

    def _counted(self, name: str, method: Any) -> Any:
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self.active:
                self.steps[-1].append(name)
            return method(tensor, *args, **kwargs)

        return call

    def _flags(self, copy: HostCopy) -> Any:
        self.read.append(len(self.steps))
        active, self.active = self.active, False
        values = copy.wait().tolist()
        self.active = active
        return values


def test_steps_that_are_not_logged_read_no_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functional, "_trains_on_cpu", lambda x: False)  # that code reads a slope
    images = torch.rand(8, 3, 16, 16)
    items: Any = [{"degraded": x, "target": x, "name": str(k)} for k, x in enumerate(images)]
    module = RestorationModule(
        MPRNet(4, 0, 0, 1), MultiStageLoss(), partial(torch.optim.Adam, fused=True),
        mixup_alpha=0.5, mixup_after_epoch=0,
    )  # fmt: skip
    watch, progress = Watch(monkeypatch), Progress()
    progress.console = Console(file=io.StringIO(), force_terminal=True)
    callbacks = [
        watch, progress, Monitor(), EMA(), SkipNonFinite(tmp_path), StopOnSignal(tmp_path)
    ]  # fmt: skip
    lightning.Trainer(
        max_epochs=1, log_every_n_steps=4, accelerator="cpu", callbacks=callbacks,
        logger=CSVLogger(tmp_path), enable_model_summary=False,
    ).fit(module, DataLoader(items, batch_size=1))  # fmt: skip
    assert [number for number, waits in enumerate(watch.steps, start=1) if waits] == [4, 8]
    assert watch.copied == list(range(1, 9))
    assert watch.read == [*range(2, 9), 8]  # one step late, and the last one at the end
