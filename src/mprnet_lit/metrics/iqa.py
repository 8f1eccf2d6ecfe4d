"""Image quality metrics of the package pyiqa, such as NIQE."""

import difflib
import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mprnet_lit.metrics.protocols import Protocol
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError, install_hint

OWN = ("psnr", "ssim")
"""Names of the metrics of this package, which pyiqa defines differently."""


class IqaScores(Protocol):
    """Scores of metrics of pyiqa, on RGB rounded to 8 bits.

    Metrics without a reference, such as NIQE (Mittal et al., IEEE SPL 2013), ignore the target.

    Args:
        metrics: result of :func:`load_metrics`.
    """

    def __init__(self, metrics: Mapping[str, nn.Module], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require("metrics", metrics, Mapping, "a mapping of names to metrics")
        self.columns = tuple(metrics)
        self.metrics = nn.ModuleList(metrics.values())

    def measure(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scores (B, columns) of two batches (B, 3, H, W) in [0, 1].

        Raises:
            UserError: a metric fails, for example because the images are too small for it.
        """
        pairs = list(zip(restored[:, None], target[:, None], strict=True))
        scores = [
            [_score(name, metric, *pair) for pair in pairs]
            for name, metric in zip(self.columns, self.metrics, strict=True)
        ]
        return torch.tensor(scores, dtype=torch.float32, device=restored.device).T

    @property
    def directions(self) -> dict[str, str]:
        """Whether a lower or a higher score is better, by name."""
        pairs = zip(self.columns, self.metrics, strict=True)
        return {name: "lower" if metric.lower_better else "higher" for name, metric in pairs}


def load_metrics(names: Sequence[str]) -> dict[str, nn.Module]:
    """Load metrics of pyiqa, which downloads the weights of most metrics on their first use.

    Args:
        names: names of pyiqa, such as ``niqe``; see ``pyiqa.list_models()``.

    Raises:
        UserError: pyiqa is not installed, does not have a metric, or can't load it; or a name is
            that of a metric of this package.
    """
    require("names", names, (list, tuple), "a list of names")
    listed = ", ".join(map(str, names))
    try:
        pyiqa: Any = importlib.import_module("pyiqa")
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise UserError(f"metrics=[{listed}] needs pyiqa: {install_hint('iqa')}") from error
    pyiqa.utils.get_root_logger().setLevel(logging.WARNING)  # not each network that it creates
    known = [name for name in pyiqa.list_models() if name not in OWN]
    found: dict[str, nn.Module] = {}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known) or ["niqe"]
            raise UserError(
                f"metrics=[{listed}]: {name} must be a metric of pyiqa other than "
                f"{' and '.join(OWN)}, such as {', '.join(near)}"
            )
        try:
            found[name] = pyiqa.create_metric(name, device=torch.device("cpu"))
        except Exception as error:  # each metric has its own exceptions
            raise UserError(
                f"metrics=[{listed}]: {name} can't be loaded ({_line(error)}): its first use needs "
                "a network connection to download its weights"
            ) from error
    return found


def _score(name: str, metric: nn.Module, restored: Tensor, target: Tensor) -> float:
    """Return the score of one image (1, 3, H, W)."""
    try:
        return float(metric(restored, target))
    except Exception as error:  # each metric has its own exceptions
        height, width = target.shape[-2:]
        raise UserError(
            f"the metric {name} can't score an image of {width}x{height} pixels ({_line(error)}): "
            "remove it from the metrics, or use larger images"
        ) from error


def _line(error: BaseException) -> str:
    """Return the class and the first line of an exception."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
