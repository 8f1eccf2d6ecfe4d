"""The hyperparameters of an MPRNet and the named sizes."""

from dataclasses import asdict, dataclass
from typing import Literal

from mprnet_lit.utils.errors import UserError

SizeName = Literal["tiny", "small", "base", "large"]


@dataclass(frozen=True)
class Size:
    """Hyperparameters that fix every weight's shape.

    Attributes:
        width: channels C of the finest level.
        unet_step: channels U that each encoder level adds.
        orsnet_step: channels O that the original-resolution network adds.
        cabs_per_orb: channel attention blocks K in each original-resolution block.
        reduction: factor r by which channel attention narrows, at most ``width``.

    Raises:
        UserError: a number is not whole or too small, or ``reduction`` leaves no channel.
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
                "the attention's channels are width / reduction"
            )


SIZES: dict[SizeName, Size] = {
    "large": Size(width=96, unet_step=48, orsnet_step=32, cabs_per_orb=8),  # paper's deblurring
    "base": Size(width=80, unet_step=48, orsnet_step=32, cabs_per_orb=8),  # paper's denoising
    "small": Size(width=40, unet_step=20, orsnet_step=16, cabs_per_orb=8),  # paper's deraining
    "tiny": Size(width=16, unet_step=8, orsnet_step=8, cabs_per_orb=2),  # a laptop's CPU
}
