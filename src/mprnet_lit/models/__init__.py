"""MPRNet: network, blocks, stages and named sizes."""

from mprnet_lit.models.mprnet import SIZE_MULTIPLE, MPRNet
from mprnet_lit.models.sizes import SIZES, Size, SizeName

__all__ = ["SIZES", "SIZE_MULTIPLE", "MPRNet", "Size", "SizeName"]
