"""Hyperparameters of an MPRNet, and named sizes."""

from dataclasses import asdict, dataclass
from typing import Literal

from mprnet_lit.utils.errors import UserError

SizeName = Literal["tiny", "small", "base", "large"]


@dataclass(frozen=True)
class Size:
    """Hyperparameters that determine the shapes of all weights.

    Attributes:
        width: number of channels C of the finest level.
        unet_step: number of channels U added at each encoder level.
        orsnet_step: number of channels O added in the original-resolution subnetwork.
        cabs_per_orb: number of channel attention blocks K in each original-resolution block.
        reduction: reduction factor r of the channel attention, at most ``width``.

    Raises:
        UserError: a value is not an integer or is too small, or ``reduction`` exceeds ``width``.
    """

    width: int
    unet_step: int
    orsnet_step: int
    cabs_per_orb: int
    reduction: int = 4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name.endswith("_step") else 1
            if type(value) is not int or value < least:
                raise UserError(f"model.{name}={value} must be a whole number, {least} or more")
        if self.reduction > self.width:
            raise UserError(
                f"model.reduction={self.reduction} must be at most model.width={self.width}: "
                "channel attention has width / reduction channels"
            )


SIZES: dict[SizeName, Size] = {
    "large": Size(width=96, unet_step=48, orsnet_step=32, cabs_per_orb=8),  # paper: deblurring
    "base": Size(width=80, unet_step=48, orsnet_step=32, cabs_per_orb=8),  # paper: denoising
    "small": Size(width=40, unet_step=20, orsnet_step=16, cabs_per_orb=8),  # paper: deraining
    "tiny": Size(width=16, unet_step=8, orsnet_step=8, cabs_per_orb=2),  # for laptop CPUs
}


def size_name(size: Size) -> str:
    """Return the name of a size, or its hyperparameters if it has no name."""
    return next((name for name, known in SIZES.items() if known == size), str(size))
