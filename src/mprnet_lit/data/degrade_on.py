"""Choice of the place where training patches are degraded: worker processes or the device."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch

from mprnet_lit.data.degradations import Degradation
from mprnet_lit.data.degradations.batched import trim
from mprnet_lit.data.samples import Sample, SampleList
from mprnet_lit.utils.errors import UserError

DegradeOn = Literal["auto", "cpu", "device"]
"""``cpu`` for the workers, ``device`` for batches on the training device, or ``auto``."""


def check_choice(degrade_on: DegradeOn, degradation: Degradation | None) -> None:
    """Check that a degradation can run where the setting says.

    Raises:
        UserError: ``degrade_on`` is unknown, or is ``device`` and the degradation can only run on
            the CPU.
    """
    if degrade_on not in get_args(DegradeOn):
        raise UserError(f"degrade_on={degrade_on} must be one of {', '.join(get_args(DegradeOn))}")
    if degrade_on == "device" and degradation is not None and degradation.cpu_only():
        raise UserError(
            f"degrade_on=device is not possible, because {', '.join(degradation.cpu_only())} can "
            "only run on the CPU: set degrade_on=auto"
        )


def on_device(
    degrade_on: DegradeOn,
    degradation: Degradation | None,
    samples: Sequence[Sample],
    device: torch.device,
) -> bool:
    """Return whether training patches are degraded on the device.

    Args:
        degrade_on: setting. ``auto`` selects any device other than a CPU.
        degradation: degradation of the samples without a degraded image.
        samples: training images. If one has a degraded image, the workers degrade the others.
        device: training device.
    """
    if degrade_on == "cpu" or degradation is None or degradation.cpu_only():
        return False
    if SampleList.of(samples).has_pairs():
        return False
    return degrade_on == "device" or device.type != "cpu"


def degrade_batch(batch: dict[str, Any], degradation: Degradation) -> dict[str, Any]:
    """Degrade a batch of items with ``draws`` on the device of its tensors.

    Args:
        batch: collated items of a :class:`CropDataset` with ``degrade_later``.
        degradation: degradation of the dataset.

    Returns:
        Batch with ``degraded`` and without ``draws``, as of a dataset without ``degrade_later``.
    """
    clean = batch["target"]
    degraded = degradation.degrade_batch(clean.float(), batch["draws"]).to(clean.dtype)
    target = trim(clean, degradation.margin).contiguous()
    rest = {name: batch[name] for name in ("name", "weight")}
    return {"degraded": degraded, "target": target, **rest}
