"""What is known of weights besides their values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from mprnet_lit.models import Size
from mprnet_lit.utils.checks import require
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights.training import training_settings

RECORD = "mprnet_lit"
"""The key under which a file keeps the size and the :class:`Info`."""
PUBLISHED_LICENCE = "academic and non-commercial (published MPRNet weights)"


@dataclass(frozen=True)
class Info:
    """Kept in the weights file, whatever its format.

    Attributes:
        task: ``task.name`` of the training, such as ``deblur``; empty if unknown.
        crop: side of the training patches in pixels; test-time local conversion needs it.
        licence: of the weights' origin; empty if nobody said.
        metrics: what validation measured, such as ``{"val/psnr": 31.1}``.
        config: settings that define the training; see ``training_settings``.
    """

    task: str = ""
    crop: int = 256
    licence: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.crop, int) or self.crop < 8:
            raise UserError(f"the training crop is {self.crop!r}, not a number of pixels")
        if not (
            isinstance(self.task, str)
            and isinstance(self.licence, str)
            and isinstance(self.config, Mapping)
            and isinstance(self.metrics, Mapping)
            and all(isinstance(value, int | float) for value in self.metrics.values())
        ):
            raise UserError("what it says of the training is not of the kind that it should be")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Take the known fields of a mapping; what is absent keeps its default.

        Raises:
            UserError: ``values`` is not a mapping, or a field is of another kind.
        """
        require("values", values, Mapping, "a mapping")
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def record(self, size: Size) -> dict[str, Any]:
        """Return what a file keeps, in plain values: these and the network's size.

        Of the configuration, which earlier versions kept as a whole, it is the training's settings.
        """
        return {"size": asdict(size), **asdict(self), "config": training_settings(self.config)}
