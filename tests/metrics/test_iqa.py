"""Metrics of pyiqa, with a stand-in for the package, which needs no weights and no network."""

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mprnet_lit.metrics.iqa import IqaScores, load_metrics
from mprnet_lit.utils.errors import UserError


class Metric(nn.Module):
    """Mean error, or mean of the image without a reference, in the interface of pyiqa 0.1.16."""

    def __init__(self, name: str, device: Any) -> None:
        super().__init__()
        if name == "maniqa":
            raise OSError("no route to host")
        self.lower_better = name == "gmsd"

    def forward(self, target: Tensor, ref: Tensor) -> Tensor:
        assert target.shape[0] == 1 and target.min() >= 0 and target.max() <= 1
        assert min(target.shape[-2:]) >= 8, "too small"
        return (target - ref).abs().mean()[None] if self.lower_better else target.mean()


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    names = ["gmsd", "maniqa", "niqe", "psnr", "ssim"]
    logs = SimpleNamespace(get_root_logger=lambda: logging.getLogger("pyiqa"))
    package = SimpleNamespace(list_models=lambda: names, create_metric=Metric, utils=logs)
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    return package


def test_scores_are_those_of_8_bit_images(pyiqa: SimpleNamespace) -> None:
    scores = IqaScores(load_metrics(["niqe", "gmsd"]))
    assert not logging.getLogger("pyiqa").isEnabledFor(logging.INFO)
    assert scores.directions == {"niqe": "higher", "gmsd": "lower"}
    target = torch.full((2, 3, 8, 9), 0.5)
    restored = torch.stack([torch.full((3, 8, 9), 0.2), torch.full((3, 8, 9), 1.3)])
    scores.update(torch.tensor([4, 7]), restored, target)
    assert scores.compute() == {
        4: pytest.approx({"niqe": 51 / 255, "gmsd": 0.3}, abs=2e-3),
        7: pytest.approx({"niqe": 1, "gmsd": 0.5}, abs=2e-3),
    }
    with pytest.raises(UserError, match=r"niqe can't score an image of 5x4 .*too small\): remove"):
        scores.update(0, target[:1, :, :4, :5], target[:1, :, :4, :5])


def test_errors_are_one_sentence(pyiqa: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, message in {
        "nique": r"metrics=\[nique\]: nique must be a metric of pyiqa .*, such as niqe",
        "psnr": r"psnr must be a metric of pyiqa other than psnr and ssim",
        "maniqa": r"maniqa can't be loaded \(OSError: no route to host\): its first use needs",
    }.items():
        with pytest.raises(UserError, match=message):
            load_metrics([name])
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"metrics=\[niqe\] needs pyiqa: pip install .*\[iqa\]'"):
        load_metrics(["niqe"])
