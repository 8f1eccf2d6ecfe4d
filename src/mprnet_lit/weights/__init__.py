"""Weights: reading and writing files, the published names and ours."""

from mprnet_lit.weights.files import Weights, load, read, save
from mprnet_lit.weights.info import RECORD, Info

__all__ = ["RECORD", "Info", "Weights", "load", "read", "save"]
