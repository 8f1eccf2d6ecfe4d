"""Running a trained network on images of any size."""

from mprnet_lit.inference.restorer import Restorer

__all__ = ["Restorer"]
