"""Metadata of a weights file."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from mprnet_lit.models import Size
from mprnet_lit.utils.checks import require, require_number
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.format_version import FORMAT
from mprnet_lit.weights.training_config import training_settings

RECORD = "mprnet_lit"
"""Key of the network's size and the :class:`Info` in ``.pth``, ``.ckpt`` and ``.onnx`` files."""
OLD_LICENSE = "licence"
"""Key of the license in files of release 0.1."""
PUBLISHED_LICENSE = "academic and non-commercial (published MPRNet weights)"


@dataclass(frozen=True)
class Info:
    """Metadata that every weights file format stores.

    Attributes:
        task: name of the task, such as ``deblur``; empty if unknown.
        crop: side of the training patches in pixels, at least 8; the test-time local converter
            derives its window from this value.
        license: license of the weights; empty if unknown.
        metrics: validation metrics, such as ``{"val/psnr": 31.1}``.
        config: training configuration, without paths; see ``training_settings``.
        change: 99th percentile of the mean absolute difference between the inputs and the targets
            of the training patches, in levels of 255; ``None`` if unknown. A restoration that
            changes an image more is unlike the training.

    Raises:
        UserError: a field has the wrong type, ``crop`` is below 8, or ``change`` is not a number
            from 0 to 255.
    """

    task: str = ""
    crop: int = 256
    license: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    change: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.crop, int) or self.crop < 8:
            raise UserError(f"crop={self.crop!r} must be an integer number of pixels, at least 8")
        if self.change is not None:
            require_number("change", self.change, low=0, high=255)
        if not (
            isinstance(self.task, str)
            and isinstance(self.license, str)
            and isinstance(self.config, Mapping)
            and isinstance(self.metrics, Mapping)
            and all(isinstance(value, int | float) for value in self.metrics.values())
        ):
            raise UserError(
                "task and license must be strings, config a mapping, and metrics a mapping of "
                "names to numbers"
            )

    @property
    def licence(self) -> str:
        """Deprecated alias of ``license``, which release 0.3 removes."""
        warnings.warn(
            "Info.licence is deprecated and will be removed in release 0.3: use Info.license",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.license

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Build an Info from a mapping, such as the metadata of a file.

        Args:
            values: fields by name. Missing fields get their defaults, unknown ones are ignored.

        Raises:
            UserError: ``values`` is not a mapping, or a field has the wrong type.
        """
        require("values", values, Mapping, "a mapping")
        if OLD_LICENSE in values:
            values = {"license": values[OLD_LICENSE], **values}
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def record(self, size: Size) -> dict[str, Any]:
        """Return the metadata that a file stores: format, size of the network and these fields.

        The configuration is reduced to the settings that define the training.
        """
        config = training_settings(self.config)
        return {"format": FORMAT, "size": asdict(size), **asdict(self), "config": config}
