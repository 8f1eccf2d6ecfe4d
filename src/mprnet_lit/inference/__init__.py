"""Running a trained network on images of any size."""

from mprnet_lit.inference.restorer import Restorer, from_config

__all__ = ["Restorer", "from_config"]
