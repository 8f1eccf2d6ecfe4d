"""Inference on images of any size and type."""

from mprnet_lit.inference.restorer import Restorer

__all__ = ["Restorer"]
